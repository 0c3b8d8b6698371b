from django.contrib.auth.management import create_permissions
from django.db import migrations

MODELS_TO_LOOK_AT = ["stagingroot", "run", "ingestevent", "retentionpolicy", "proof", "clearattempt", "ledgerentry"]


def make_groups(apps, schema_editor):
    """`viewer` may look, `operator` may clear as well. Permissions are usually made after migrate: too late here."""
    app_config = apps.get_app_config("cleanup")
    app_config.models_module = True
    create_permissions(app_config, apps=apps, using=schema_editor.connection.alias, verbosity=0)
    app_config.models_module = None
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    ours = Permission.objects.filter(content_type__app_label="cleanup")
    look = list(ours.filter(codename__in=[f"view_{name}" for name in MODELS_TO_LOOK_AT]))
    clear = list(ours.filter(codename="clear_run"))
    viewer, _ = Group.objects.get_or_create(name="viewer")
    viewer.permissions.add(*look)
    operator, _ = Group.objects.get_or_create(name="operator")
    operator.permissions.add(*look, *clear)


class Migration(migrations.Migration):
    dependencies = [
        ("cleanup", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
