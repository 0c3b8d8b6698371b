# The last comparison of database, disks, NAS and data directory on each host.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0028_notice'),
    ]

    operations = [
        migrations.CreateModel(
            name='Reconciliation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('host', models.CharField(max_length=255, unique=True)),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('progress_at', models.DateTimeField(verbose_name='last progress')),
                ('step', models.CharField(blank=True, max_length=80, verbose_name='step under way')),
                ('runs', models.BigIntegerField(default=0, verbose_name='runs seen on the disks')),
                ('asked', models.BigIntegerField(default=0, verbose_name='copies asked for')),
                ('not_asked', models.BigIntegerField(default=0, verbose_name='copies that the NAS did not tell of')),
                ('waiting', models.BigIntegerField(default=0, verbose_name='copies not asked for yet')),
                ('after', models.JSONField(blank=True, default=dict)),
                ('counts', models.JSONField(blank=True, default=dict)),
                ('found', models.JSONField(blank=True, default=list)),
                ('problems', models.JSONField(blank=True, default=list, verbose_name='what could not be looked at')),
            ],
            options={
                'ordering': ('host',),
            },
        ),
    ]
