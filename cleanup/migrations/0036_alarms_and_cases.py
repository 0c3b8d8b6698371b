# When people are told that a disk fills up, and who has which group of problems.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0035_roots_by_page'),
    ]

    operations = [
        migrations.AddField(
            model_name='stagingroot',
            name='alarm_percent',
            field=models.PositiveSmallIntegerField(blank=True, default=85, null=True, verbose_name='alarm from so many percent'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='alarm_hours',
            field=models.PositiveSmallIntegerField(blank=True, default=24, null=True, verbose_name='alarm hours before it is full'),
        ),
        migrations.CreateModel(
            name='DiskForecast',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(verbose_name='measured at')),
                ('total_bytes', models.BigIntegerField()),
                ('free_bytes', models.BigIntegerField()),
                ('bytes_an_hour', models.BigIntegerField(blank=True, null=True, verbose_name='bytes that arrive an hour')),
                ('full_at', models.DateTimeField(blank=True, null=True, verbose_name='full at about')),
                ('foreseen', models.BooleanField(default=False, verbose_name='will be full too soon, as was last known')),
                ('alarm_since', models.DateTimeField(blank=True, null=True, verbose_name='people are told since')),
                ('mailed_at', models.DateTimeField(blank=True, null=True)),
                ('mails', models.PositiveIntegerField(default=0, verbose_name='number of recipients')),
                ('mail_problem', models.CharField(blank=True, max_length=500, verbose_name='why a mail was not sent')),
                ('root', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='disk_forecast', to='cleanup.stagingroot')),
            ],
            options={'ordering': ('root',)},
        ),
        migrations.RemoveConstraint(
            model_name='alert',
            name='alert_kind_is_known',
        ),
        migrations.AlterField(
            model_name='alert',
            name='kind',
            field=models.CharField(choices=[('stalled_run', 'Stalled Run'), ('stalled_attempt', 'Stalled Attempt'), ('schedule', 'Schedule'), ('cluster', 'Cluster'), ('host', 'Host'), ('pressure', 'Pressure'), ('disk', 'Disk'), ('hold', 'Hold'), ('orphan', 'Orphan'), ('conflict', 'Conflict'), ('twin', 'Twin')], max_length=16),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['stalled_run', 'stalled_attempt', 'schedule', 'cluster', 'host', 'pressure', 'disk', 'hold', 'orphan', 'conflict', 'twin'])), name='alert_kind_is_known'),
        ),
        migrations.CreateModel(
            name='ProblemCase',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.CharField(max_length=20)),
                ('kind', models.CharField(max_length=16)),
                ('reason', models.CharField(blank=True, max_length=40)),
                ('place', models.CharField(blank=True, max_length=300)),
                ('since', models.DateTimeField()),
                ('seen_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('number', models.PositiveIntegerField(default=1)),
                ('newest_at', models.DateTimeField(blank=True, null=True)),
                ('escalated', models.BooleanField(default=False)),
                ('acknowledged_by', models.CharField(blank=True, max_length=150)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('assigned_to', models.CharField(blank=True, max_length=150)),
                ('assigned_at', models.DateTimeField(blank=True, null=True)),
                ('snoozed_by', models.CharField(blank=True, max_length=150)),
                ('snoozed_until', models.DateTimeField(blank=True, null=True)),
                ('snoozed_number', models.PositiveIntegerField(default=0)),
                ('snoozed_newest_at', models.DateTimeField(blank=True, null=True)),
                ('snoozed_escalated', models.BooleanField(default=False)),
                ('root', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='cases', to='cleanup.stagingroot')),
            ],
            options={
                'ordering': ('-since', '-id'),
                'indexes': [models.Index(condition=models.Q(('ended_at__isnull', False)), fields=['ended_at', 'id'], name='case_ended')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('slug',), name='one_open_case_per_group')],
            },
        ),
        migrations.CreateModel(
            name='CaseNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('author', models.CharField(blank=True, max_length=150)),
                ('deed', models.CharField(choices=[('acknowledged', 'has seen it'), ('assigned', 'gave it to'), ('given_back', 'gave it back'), ('put_off', 'put it off'), ('came_back', 'came back'), ('noted', 'noted')], max_length=16)),
                ('text', models.CharField(blank=True, max_length=500)),
                ('case', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='notes', to='cleanup.problemcase')),
            ],
            options={'ordering': ('at', 'id')},
        ),
    ]
