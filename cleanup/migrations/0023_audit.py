# Rows of the ledger that are of no run, and who may see everywhere what was freed.

import django.db.models.deletion
from django.contrib.auth.management import create_permissions
from django.db import migrations, models


def make_group(apps, schema_editor):
    """`auditor` sees everywhere what was freed, and nothing else."""
    app_config = apps.get_app_config("cleanup")
    app_config.models_module = True
    create_permissions(app_config, apps=apps, using=schema_editor.connection.alias, verbosity=0)
    app_config.models_module = None
    audit = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="cleanup", codename="audit")
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name="auditor")
    group.permissions.add(*audit)


def remove_group(apps, schema_editor):
    """An older migration would give places to a group that it does not know."""
    apps.get_model("auth", "Group").objects.filter(name="auditor").delete()


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0022_chain'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='ledgerentry',
            options={'ordering': ('-at', '-id'), 'permissions': [('audit', 'Can see everywhere what was freed')], 'verbose_name_plural': 'ledger entries'},
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_kind_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='ledgerentry',
            name='ledger_entry_has_its_attempt',
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='kind',
            field=models.CharField(choices=[('authorised', 'Authorised'), ('completed', 'Completed'), ('partial', 'Partial'), ('refused', 'Refused'), ('aborted', 'Aborted'), ('conflict', 'Conflict'), ('reregistered', 'Reregistered'), ('marked_gone', 'Marked Gone'), ('shell', 'Shell'), ('set_aside', 'Set Aside'), ('put_back', 'Put Back'), ('accepted', 'Accepted'), ('restored', 'Restored'), ('recovered', 'Recovered'), ('key', 'Key')], max_length=12),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='run',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='ledger', to='cleanup.run'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['authorised', 'completed', 'partial', 'refused', 'aborted', 'conflict', 'reregistered', 'marked_gone', 'shell', 'set_aside', 'put_back', 'accepted', 'restored', 'recovered', 'key'])), name='ledger_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('attempt__isnull', False), ('kind__in', ['reregistered', 'marked_gone', 'set_aside', 'put_back', 'accepted', 'recovered', 'restored', 'key']), _connector='OR'), name='ledger_entry_has_its_attempt'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(condition=models.Q(('run__isnull', False), ('kind__in', ['restored', 'key']), _connector='OR'), name='ledger_entry_has_its_run'),
        ),
        migrations.RunPython(make_group, remove_group),
    ]
