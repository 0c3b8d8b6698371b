# What bytes were found to differ, which policy version decided, and a sweep's clears that left files.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', "0011_slow_twins"),
    ]

    operations = [
        migrations.AddField(
            model_name='clearattempt',
            name='decided_by',
            field=models.JSONField(blank=True, default=dict, verbose_name='policy that decided'),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='decided_by',
            field=models.JSONField(blank=True, default=dict, verbose_name='policy that decided'),
        ),
        migrations.AddField(
            model_name='sweep',
            name='partial',
            field=models.PositiveIntegerField(default=0, verbose_name='cleared with files left'),
        ),
        migrations.AddField(
            model_name='sweptrun',
            name='decided_by',
            field=models.JSONField(blank=True, default=dict, verbose_name='policy that decided'),
        ),
        migrations.CreateModel(
            name='Difference',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('host', models.CharField(max_length=255)),
                ('reason', models.CharField(max_length=40)),
                ('detail', models.TextField(blank=True)),
                ('evidence', models.CharField(max_length=64)),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='difference', to='cleanup.run')),
            ],
            options={
                'ordering': ['-at'],
            },
        ),
    ]
