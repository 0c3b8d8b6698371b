# Files that a person has set aside, and the ledger's rows of that.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0009_nas_places'),
    ]

    operations = [
        migrations.CreateModel(
            name='SetAside',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_path', models.CharField(max_length=1024)),
                ('path', models.TextField()),
                ('raw', models.BinaryField()),
                ('key', models.CharField(max_length=64)),
                ('size', models.BigIntegerField(verbose_name='logical bytes')),
                ('marks', models.CharField(max_length=80)),
                ('state', models.CharField(choices=[('intent', 'Intent'), ('done', 'Done'), ('undoing', 'Undoing'), ('undone', 'Undone'), ('aborted', 'Aborted'), ('taken', 'Taken')], default='intent', max_length=8)),
                ('host', models.CharField(max_length=255)),
                ('actor', models.CharField(max_length=150)),
                ('note', models.CharField(max_length=500, verbose_name='reason given')),
                ('at', models.DateTimeField(verbose_name='set aside at')),
                ('state_at', models.DateTimeField()),
                ('undone_by', models.CharField(blank=True, max_length=150)),
                ('undone_note', models.CharField(blank=True, max_length=500, verbose_name='reason given for the undo')),
                ('detail', models.TextField(blank=True)),
            ],
            options={
                'verbose_name_plural': 'files set aside',
                'ordering': ('-at', '-id'),
            },
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_entry_has_its_attempt',
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_kind_is_known',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('authorised', 'Authorised'), ('completed', 'Completed'), ('partial', 'Partial'), ('refused', 'Refused'), ('aborted', 'Aborted'), ('conflict', 'Conflict'), ('reregistered', 'Reregistered'), ('marked_gone', 'Marked Gone'), ('shell', 'Shell'), ('set_aside', 'Set Aside'), ('put_back', 'Put Back')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['authorised', 'completed', 'partial', 'refused', 'aborted', 'conflict', 'reregistered', 'marked_gone', 'shell', 'set_aside', 'put_back'])), name='ledger_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('attempt__isnull', False), ('kind__in', ['reregistered', 'marked_gone', 'set_aside', 'put_back']), _connector='OR'), name='ledger_entry_has_its_attempt'),
        ),
        migrations.AddField(
            model_name='setaside',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='set_aside', to='cleanup.run'),
        ),
        migrations.AddIndex(
            model_name='setaside',
            index=models.Index(fields=['state', 'host'], name='set_aside_by_state'),
        ),
        migrations.AddConstraint(
            model_name='setaside',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['intent', 'done', 'undoing', 'undone', 'aborted', 'taken'])), name='set_aside_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='setaside',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['intent', 'done', 'undoing'])), fields=('run', 'key'), name='one_set_aside_per_file'),
        ),
    ]
