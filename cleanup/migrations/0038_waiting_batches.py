# Batches that wait for their time, with their runs; the oldest safe runs of a staging root are found by an index.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0036_alarms_and_cases'),
    ]

    operations = [
        migrations.CreateModel(
            name='WaitingRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('mark', models.CharField(max_length=12, verbose_name='digest of what was shown')),
                ('bytes', models.BigIntegerField(default=0, verbose_name='logical bytes')),
                ('allocated_bytes', models.BigIntegerField(default=0)),
                ('left_out', models.CharField(blank=True, max_length=40, verbose_name='why it stayed when the batch began')),
                ('detail', models.TextField(blank=True)),
            ],
            options={
                'ordering': ('batch', '-bytes', '-run_id'),
            },
        ),
        migrations.AddField(
            model_name='clearbatch',
            name='started_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='began after its wait'),
        ),
        migrations.AddField(
            model_name='clearbatch',
            name='starts_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='waits until'),
        ),
        migrations.AddIndex(
            model_name='clearbatch',
            index=models.Index(condition=models.Q(('started_at', None), ('starts_at__isnull', False), ('stopped_at', None)), fields=['starts_at'], name='batch_that_waits'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['root', 'tone', 'verified_at', 'id'], name='run_here_oldest'),
        ),
        migrations.AddField(
            model_name='waitingrun',
            name='batch',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='waiting_runs', to='cleanup.clearbatch'),
        ),
        migrations.AddField(
            model_name='waitingrun',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='waits_in', to='cleanup.run'),
        ),
        migrations.AddConstraint(
            model_name='waitingrun',
            constraint=models.UniqueConstraint(fields=('batch', 'run'), name='one_waiting_run_per_batch'),
        ),
    ]
