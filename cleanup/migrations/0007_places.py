from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.models import Q

MODELS_TO_LOOK_AT = ["clearbatch", "diskusage", "instrument", "project"]
DONE = 4


def name_places(apps, schema_editor):
    """The instruments and projects of the runs that there are; those that have a row keep it as it is."""
    Run = apps.get_model("cleanup", "Run")
    Instrument = apps.get_model("cleanup", "Instrument")
    Project = apps.get_model("cleanup", "Project")
    instruments = Run.objects.order_by("root", "equipment").values_list("root", "equipment").distinct()
    places = (Instrument(root_id=root, equipment=name) for root, name in instruments)
    Instrument.objects.bulk_create(places, ignore_conflicts=True)
    titles = dict.fromkeys(Run.objects.order_by("project").values_list("project", flat=True).distinct(), "")
    known = Run.objects.exclude(project_name="").order_by("first_seen_at", "pk")
    titles.update(known.values_list("project", "project_name").iterator())
    projects = (Project(code=code, title=title) for code, title in titles.items())
    Project.objects.bulk_create(projects, ignore_conflicts=True)


def judge_cleared_runs(apps, schema_editor):
    """Runs that went long ago need no judgement; all others get theirs from the program, or have it by now."""
    Run = apps.get_model("cleanup", "Run")
    ClearAttempt = apps.get_model("cleanup", "ClearAttempt")
    unsettled = ClearAttempt.objects.filter(Q(phase="committed") | Q(phase="done") & ~Q(reason="")).values("run")
    gone = Run.objects.filter(Q(state="cleared", problem="") | Q(gone_at__isnull=False), judged=0)
    gone.exclude(pk__in=unsettled).update(here=False, tone=DONE, judged=1)


def give_access(apps, schema_editor):
    """Whoever could do something until now could do it everywhere, and still can: narrower places are the admin's.

    Where anybody has a place already, the admin has seen to them since, and nobody is given back what was taken away.
    """
    app_config = apps.get_app_config("cleanup")
    app_config.models_module = True
    create_permissions(app_config, apps=apps, using=schema_editor.connection.alias, verbosity=0)
    app_config.models_module = None
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    User = apps.get_model("auth", "User")
    Access = apps.get_model("cleanup", "Access")
    ours = Permission.objects.filter(content_type__app_label="cleanup")
    look = list(ours.filter(codename__in=[f"view_{name}" for name in MODELS_TO_LOOK_AT]))
    for name in ("viewer", "operator"):
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*look)
    if Access.objects.exists():
        return
    groups = Group.objects.filter(permissions__content_type__app_label="cleanup").distinct()
    users = User.objects.filter(user_permissions__content_type__app_label="cleanup").distinct()
    Access.objects.bulk_create([Access(group=group) for group in groups] + [Access(user=user) for user in users])


class Migration(migrations.Migration):
    dependencies = [
        ("cleanup", "0006_pages"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [
        migrations.RunPython(name_places, migrations.RunPython.noop),
        migrations.RunPython(judge_cleared_runs, migrations.RunPython.noop),
        migrations.RunPython(give_access, migrations.RunPython.noop),
    ]
