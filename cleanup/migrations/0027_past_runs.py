# Who had a run cleared, on the run; indexes by which past runs are found; months whose summary was sent.

from django.db import migrations, models
from django.db.models import OuterRef, Subquery

BATCH = 50_000
CLEARED = models.Q(("state", "cleared"))


def name_people(apps, schema_editor):
    """Name on each cleared run who had it cleared, from the ledger; twice is harmless."""
    Run, LedgerEntry = apps.get_model("cleanup", "Run"), apps.get_model("cleanup", "LedgerEntry")
    said = LedgerEntry.objects.filter(run=OuterRef("pk"), kind="authorised").order_by("-pk").values("actor")[:1]
    asked = LedgerEntry.objects.filter(kind="authorised").exclude(actor="")
    last = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for first in range(0, last, BATCH):
        some = Run.objects.filter(pk__gt=first, pk__lte=first + BATCH, state="cleared", cleared_for="")
        some.filter(pk__in=asked.filter(run__gt=first, run__lte=first + BATCH).values("run")).update(
            cleared_for=Subquery(said)
        )


def _index(name, *fields):
    index = models.Index(condition=CLEARED, fields=list(fields), name=name)
    return migrations.AddIndex(model_name="run", index=index)


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0026_day_sums'),
    ]

    operations = [
        migrations.CreateModel(
            name='MonthlyMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.CharField(max_length=7, unique=True)),
                ('at', models.DateTimeField(verbose_name='sent at')),
                ('mails', models.PositiveIntegerField(default=0, verbose_name='number of recipients')),
                ('mail_problem', models.CharField(blank=True, max_length=500, verbose_name='why a mail was not sent')),
            ],
            options={
                'ordering': ('-month',),
            },
        ),
        migrations.AddField(
            model_name='run',
            name='cleared_for',
            field=models.CharField(blank=True, max_length=150, verbose_name='who had it cleared'),
        ),
        migrations.RunPython(name_people, migrations.RunPython.noop),
        _index('run_cleared_by_equipment', 'equipment', '-cleared_at', '-id'),
        _index('run_cleared_by_project', 'project', '-cleared_at', '-id'),
        _index('run_cleared_by_person', 'cleared_for', '-cleared_at', '-id'),
        _index('run_cleared_by_path', 'run_path', 'project', 'id'),
    ]
