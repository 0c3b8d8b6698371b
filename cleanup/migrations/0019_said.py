# What passes will take and who was told of it, who typed what, and what people have picked.

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0018_clocks'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='clearattempt',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.AddField(
            model_name='hold',
            name='released_typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='release typed by the account'),
        ),
        migrations.AddField(
            model_name='hold',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.AddField(
            model_name='retentionpolicy',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.AddField(
            model_name='sweep',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.AddField(
            model_name='sweepbreaker',
            name='typed_by',
            field=models.CharField(blank=True, max_length=255, verbose_name='typed by the account'),
        ),
        migrations.CreateModel(
            name='Forecast',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('policy_version', models.PositiveIntegerField(default=0)),
                ('coming', models.JSONField(default=dict)),
                ('root', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='forecast', to='cleanup.stagingroot')),
            ],
        ),
        migrations.CreateModel(
            name='KeptSelection',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('picks', models.JSONField(default=dict)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Announcement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('at', models.DateTimeField(verbose_name='told at')),
                ('runs', models.PositiveIntegerField()),
                ('bytes', models.BigIntegerField(verbose_name='logical bytes')),
                ('first_pass_at', models.DateTimeField(verbose_name='first of the passes')),
                ('coming', models.JSONField(default=dict)),
                ('run_keys', models.JSONField(default=list)),
                ('versions', models.JSONField(blank=True, default=list, verbose_name='first passes of these policy versions')),
                ('mails', models.PositiveIntegerField(default=0, verbose_name='number of recipients')),
                ('mail_problem', models.CharField(blank=True, max_length=500, verbose_name='why a mail was not sent')),
                ('root', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='announcements', to='cleanup.stagingroot')),
            ],
            options={
                'ordering': ('-at', '-id'),
                'constraints': [models.UniqueConstraint(fields=('root', 'number'), name='one_announcement_of_each_number')],
            },
        ),
    ]
