# Staging roots are managed in the browser: requests to their hosts, and roots that are retired.

import django.db.models.deletion
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0034_first_morning'),
    ]

    operations = [
        migrations.CreateModel(
            name='RootRequest',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('look_staging', 'look at a staging root'), ('look_nas', 'look at a NAS root'), ('look_config', "look for the wizard's configuration"), ('add_staging', 'register a staging root'), ('add_nas', 'register a NAS root'), ('move', 'register again'), ('retire', 'retire'), ('import_config', "import the wizard's configuration")], max_length=16)),
                ('host', models.CharField(max_length=255)),
                ('actor', models.CharField(max_length=150)),
                ('asked', models.JSONField(default=dict)),
                ('phase', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('dropped', 'Dropped')], default='queued', max_length=8)),
                ('asked_at', models.DateTimeField()),
                ('answered_at', models.DateTimeField(blank=True, null=True)),
                ('answer', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'ordering': ('-asked_at',),
            },
        ),
        migrations.RemoveConstraint(
            model_name='rootnote',
            name='root_event_is_known',
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='retired_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='retired at'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='filesystem',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AlterField(
            model_name='rootnote',
            name='event',
            field=models.CharField(choices=[('came', 'Came'), ('unseen', 'Unseen'), ('surprise', 'Surprise'), ('over', 'Over'), ('changed', 'Changed'), ('retired', 'Retired')], max_length=8),
        ),
        migrations.AddConstraint(
            model_name='rootnote',
            constraint=models.CheckConstraint(condition=models.Q(('event__in', ['came', 'unseen', 'surprise', 'over', 'changed', 'retired'])), name='root_event_is_known'),
        ),
        migrations.AddField(
            model_name='rootrequest',
            name='root',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='cleanup.stagingroot'),
        ),
        migrations.AddIndex(
            model_name='rootrequest',
            index=models.Index(fields=['actor', 'phase'], name='root_request_of_actor'),
        ),
        migrations.AddConstraint(
            model_name='rootrequest',
            constraint=models.CheckConstraint(condition=models.Q(('phase__in', ['queued', 'running', 'done', 'dropped'])), name='root_request_phase_is_known'),
        ),
    ]
