# Where twins lie, kinds of attempts, and what is kept of records without a history.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0008_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='RecordSight',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64)),
                ('verified_at', models.DateTimeField(blank=True, null=True)),
                ('first_seen_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('run', 'first_seen_at', 'id'),
            },
        ),
        migrations.RemoveConstraint(
            model_name='alert',
            name='alert_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='orphan',
            name='orphan_kind_is_known',
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='checked_files',
            field=models.BigIntegerField(default=0, verbose_name='twin files opened again so far'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='twin_path',
            field=models.CharField(blank=True, max_length=8192, verbose_name='where the twin lay'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='kind',
            field=models.CharField(choices=[('clear', 'Clear'), ('shell', 'Shell')], default='clear', max_length=5),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='nas_flags',
            field=models.CharField(blank=True, max_length=200, verbose_name='flags in force'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='step',
            field=models.CharField(blank=True, max_length=20, verbose_name='step under way'),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='nas_flags',
            field=models.CharField(blank=True, max_length=200, verbose_name='flags in force'),
        ),
        migrations.AddField(
            model_name='run',
            name='cleared_by',
            field=models.CharField(blank=True, max_length=16, verbose_name='cleared by another program'),
        ),
        migrations.AddField(
            model_name='run',
            name='record_format',
            field=models.CharField(default='ingest', max_length=16),
        ),
        migrations.AddField(
            model_name='run',
            name='record_path',
            field=models.CharField(blank=True, max_length=1024, verbose_name='path that the record names'),
        ),
        migrations.AddField(
            model_name='run',
            name='twin_key',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name='run',
            name='twin_place',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='allow_union_nas',
            field=models.BooleanField(default=False, verbose_name='accept a union mount as the NAS'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='instrument_nas',
            field=models.JSONField(blank=True, default=dict, verbose_name='NAS roots of instruments'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='layout_proposal',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='nas_layout',
            field=models.CharField(default='run-path', max_length=255, verbose_name='layout of the NAS'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='nas_writes_through',
            field=models.BooleanField(default=False, verbose_name='the NAS mount writes through'),
        ),
        migrations.AlterField(
            model_name='alert',
            name='kind',
            field=models.CharField(choices=[('stalled_run', 'Stalled Run'), ('stalled_attempt', 'Stalled Attempt'), ('schedule', 'Schedule'), ('cluster', 'Cluster'), ('host', 'Host'), ('pressure', 'Pressure'), ('hold', 'Hold'), ('orphan', 'Orphan'), ('conflict', 'Conflict'), ('twin', 'Twin')], max_length=16),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('authorised', 'Authorised'), ('completed', 'Completed'), ('partial', 'Partial'), ('refused', 'Refused'), ('aborted', 'Aborted'), ('conflict', 'Conflict'), ('reregistered', 'Reregistered'), ('marked_gone', 'Marked Gone'), ('shell', 'Shell')], max_length=12),
        ),
        migrations.AlterField(
            model_name='orphan',
            name='kind',
            field=models.CharField(choices=[('no_record', 'No Record'), ('unknown', 'Unknown'), ('missing', 'Missing'), ('leftover', 'Leftover'), ('misplaced', 'Misplaced'), ('stray', 'Stray'), ('shell', 'Shell')], max_length=9),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['twin_key'], name='run_by_twin_key'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['twin_place'], name='run_by_twin_place'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['stalled_run', 'stalled_attempt', 'schedule', 'cluster', 'host', 'pressure', 'hold', 'orphan', 'conflict', 'twin'])), name='alert_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='clearattempt',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['clear', 'shell'])), name='attempt_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['authorised', 'completed', 'partial', 'refused', 'aborted', 'conflict', 'reregistered', 'marked_gone', 'shell'])), name='ledger_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='orphan',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['no_record', 'unknown', 'missing', 'leftover', 'misplaced', 'stray', 'shell'])), name='orphan_kind_is_known'),
        ),
        migrations.AddField(
            model_name='recordsight',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='record_sights', to='cleanup.run'),
        ),
        migrations.AddConstraint(
            model_name='recordsight',
            constraint=models.UniqueConstraint(fields=('run', 'digest'), name='one_record_sight_per_content'),
        ),
    ]
