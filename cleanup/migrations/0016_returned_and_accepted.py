# Runs that came back, comparisons of all bytes that people ask for, and bytes that admins accept.

import django.db.models.deletion
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', "0015_only_here"),
    ]

    operations = [
        migrations.CreateModel(
            name='AcceptedBytes',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('actor', models.CharField(max_length=150)),
                ('note', models.CharField(max_length=500, verbose_name='reason given')),
                ('at', models.DateTimeField()),
                ('digest', models.CharField(max_length=64)),
                ('evidence', models.CharField(max_length=64)),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True)),
                ('withdrawn_by', models.CharField(blank=True, max_length=150)),
            ],
            options={
                'verbose_name_plural': 'accepted bytes',
                'ordering': ('-at',),
                'permissions': [('accept_bytes', "Can accept a run's bytes in place of its manifest")],
            },
        ),
        migrations.CreateModel(
            name='ByteCheck',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('host', models.CharField(max_length=255)),
                ('actor', models.CharField(max_length=150)),
                ('phase', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done')], default='queued', max_length=7)),
                ('created_at', models.DateTimeField()),
                ('phase_at', models.DateTimeField()),
                ('task_id', models.CharField(blank=True, max_length=32)),
                ('compared_bytes', models.BigIntegerField(default=0, verbose_name='bytes compared so far')),
                ('planned_bytes', models.BigIntegerField(default=0, verbose_name='bytes to compare')),
                ('progress_at', models.DateTimeField(blank=True, null=True, verbose_name='last progress')),
                ('outcome', models.CharField(blank=True, choices=[('as_manifest', 'As Manifest'), ('alike', 'Alike'), ('different', 'Different'), ('not_compared', 'Not Compared')], max_length=12)),
                ('reason', models.CharField(blank=True, max_length=40)),
                ('detail', models.TextField(blank=True)),
                ('files', models.BigIntegerField(default=0)),
                ('bytes', models.BigIntegerField(default=0, verbose_name='logical bytes')),
                ('differing', models.BigIntegerField(default=0, verbose_name='files that differ')),
                ('against', models.BigIntegerField(default=0, verbose_name='files that are not as the manifest says')),
                ('missing', models.BigIntegerField(default=0, verbose_name='files of the manifest that are not staged')),
                ('named', models.JSONField(blank=True, default=list)),
                ('manifest', models.CharField(blank=True, max_length=40, verbose_name='why there is no usable manifest')),
                ('manifest_sha256', models.CharField(blank=True, max_length=64)),
                ('digest', models.CharField(blank=True, max_length=64)),
                ('evidence', models.CharField(blank=True, max_length=64)),
            ],
            options={
                'ordering': ('-created_at',),
            },
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_entry_has_its_attempt',
        ),
        migrations.AddField(
            model_name='run',
            name='returned_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='first seen again after it was cleared'),
        ),
        migrations.AddField(
            model_name='run',
            name='returned_from',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='returns', to='cleanup.run', verbose_name='cleared before as'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('authorised', 'Authorised'), ('completed', 'Completed'), ('partial', 'Partial'), ('refused', 'Refused'), ('aborted', 'Aborted'), ('conflict', 'Conflict'), ('reregistered', 'Reregistered'), ('marked_gone', 'Marked Gone'), ('shell', 'Shell'), ('set_aside', 'Set Aside'), ('put_back', 'Put Back'), ('accepted', 'Accepted')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['authorised', 'completed', 'partial', 'refused', 'aborted', 'conflict', 'reregistered', 'marked_gone', 'shell', 'set_aside', 'put_back', 'accepted'])), name='ledger_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('attempt__isnull', False), ('kind__in', ['reregistered', 'marked_gone', 'set_aside', 'put_back', 'accepted']), _connector='OR'), name='ledger_entry_has_its_attempt'),
        ),
        migrations.AddField(
            model_name='acceptedbytes',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='accepted_bytes', to='cleanup.run'),
        ),
        migrations.AddField(
            model_name='proof',
            name='accepted',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='proofs', to='cleanup.acceptedbytes', verbose_name='accepted as'),
        ),
        migrations.AddField(
            model_name='bytecheck',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='byte_checks', to='cleanup.run'),
        ),
        migrations.AddField(
            model_name='acceptedbytes',
            name='check_here',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='accepted', to='cleanup.bytecheck'),
        ),
        migrations.AddConstraint(
            model_name='bytecheck',
            constraint=models.CheckConstraint(condition=models.Q(('phase__in', ['queued', 'running', 'done'])), name='byte_check_phase_is_known'),
        ),
        migrations.AddConstraint(
            model_name='bytecheck',
            constraint=models.UniqueConstraint(condition=models.Q(('phase__in', ['queued', 'running'])), fields=('run',), name='one_active_byte_check_per_run'),
        ),
        migrations.AddConstraint(
            model_name='acceptedbytes',
            constraint=models.UniqueConstraint(condition=models.Q(('withdrawn_at', None)), fields=('run',), name='one_standing_acceptance_per_run'),
        ),
    ]
