from django.contrib.auth.management import create_permissions
from django.db import migrations

MODELS_TO_LOOK_AT = ["hold", "sweep", "sweptrun", "sweepbreaker", "surprise", "alert", "orphan"]


def extend_groups(apps, schema_editor):
    """What a viewer may look at besides, and what an operator may do: hold runs, and let sweeps go on."""
    app_config = apps.get_app_config("cleanup")
    app_config.models_module = True
    create_permissions(app_config, apps=apps, using=schema_editor.connection.alias, verbosity=0)
    app_config.models_module = None
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    ours = Permission.objects.filter(content_type__app_label="cleanup")
    look = list(ours.filter(codename__in=[f"view_{name}" for name in MODELS_TO_LOOK_AT]))
    act = list(ours.filter(codename__in=["hold_run", "go_on"]))
    for name, permissions in (("viewer", look), ("operator", look + act)):
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*permissions)


class Migration(migrations.Migration):
    dependencies = [("cleanup", "0004_policies_and_sweeps")]
    operations = [migrations.RunPython(extend_groups, migrations.RunPython.noop)]
