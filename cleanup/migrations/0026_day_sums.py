# Sums of the ledger by day and month, in the lab's zone, filled from the rows that there are.

from datetime import timedelta

from django.conf import settings
from django.db import migrations, models
from django.db.models import Exists, OuterRef
from django.utils import timezone

FREEING = ("completed", "partial")
REFUSING = ("refused", "aborted", "conflict")
KEYS = ("of_month", "day", "dimension", "key", "key2", "zone")
HALVES = [f"{name}_{half}" for name in ("bytes", "allocated", "measured", "measured_of") for half in ("upper", "lower")]
NUMBERS = ("entries", "clears", "files", *HALVES)
HOURS = (1, 2, 4, 8, 12, 18, 24, 30, 36, 42, 48, 60, 72)
DAYS = (4, 5, 6, 7, 8, 10, 12, 14, 21, 30, 45, 60, 90, 120, 180, 365, 730)
BUCKETS = [*(3600 * hours for hours in HOURS), *(86400 * days for days in DAYS)]
# At most this many sums are held before they are written.
HELD = 10_000
AT_ONCE = 200


def fill(apps, schema_editor):
    """Add up the rows, oldest first, in constant memory."""
    entries = apps.get_model("cleanup", "LedgerEntry").objects.order_by()
    earlier = entries.filter(attempt=OuterRef("attempt"), kind__in=FREEING, pk__lt=OuterRef("pk"))
    rows = entries.filter(kind__in=FREEING + REFUSING).annotate(had=Exists(earlier)).order_by("pk")
    names = ("pk", "at", "kind", "equipment", "project", "actor", "requester", "typed_by", "cause", "decided_by")
    names += ("policy_version", "root_name", "proof_level", "reason", "files", "bytes", "allocated_bytes")
    names += ("measured_bytes", "run__verified_at", "had")
    found = {}
    for row in rows.values(*names).iterator(chunk_size=2_000):
        add(found, row)
        if len(found) >= HELD:
            write(schema_editor.connection, found)
            found = {}
    write(schema_editor.connection, found)


def add(found, row):
    freeing = row["kind"] in FREEING
    first = freeing and not row["had"]
    measured = (0, 0) if row["measured_bytes"] is None else (row["measured_bytes"], row["allocated_bytes"])
    sizes = (row["bytes"], row["allocated_bytes"], *measured)
    halves = [half for size in sizes for half in (size >> 32, size & (1 << 32) - 1)]
    numbers = [1, int(first), row["files"], *halves] if freeing else [1] + [0] * (len(NUMBERS) - 1)
    values = [(*value, "") for value in (of_freeing(row) if freeing else [("refusal", row["reason"])])]
    if first:
        values.append(("duration", bucket(row["run__verified_at"], row["at"]), row["equipment"]))
    day = timezone.localtime(row["at"], timezone.get_default_timezone()).date()
    for value in values:
        for key in ((False, day, *value, settings.TIME_ZONE), (True, day.replace(day=1), *value, settings.TIME_ZONE)):
            entry, before = found.get(key, (row["pk"], [0] * len(NUMBERS)))
            found[key] = entry, [one + more for one, more in zip(before, numbers, strict=True)]


def of_freeing(row):
    scheduled = "pressure" if row["cause"] and "retention" not in row["cause"].split("+") else "schedule"
    clicked = "command" if row["typed_by"] else "click"
    by = row["decided_by"]
    versions = {by[name].get("version") or 0 for name in ("mode", "retain_hours", "proof") if name in by}
    policy = "+".join(str(version) for version in sorted(versions)) if versions else f"?{row['policy_version']}"
    return [
        ("equipment", row["equipment"]),
        ("project", row["project"]),
        ("person", row["actor"]),
        ("trigger", clicked if row["requester"] == "operator" else scheduled),
        ("policy", policy),
        ("root", row["root_name"]),
        ("proof", row["proof_level"]),
    ]


def bucket(verified_at, at):
    if verified_at is None:
        return "unknown"
    return next((str(end) for end in BUCKETS if at - verified_at <= timedelta(seconds=end)), "longer")


def write(connection, found):
    names = (*KEYS, "first_entry", *NUMBERS)
    changes = ", ".join(f"{name} = cleanup_daysum.{name} + excluded.{name}" for name in NUMBERS)
    row = f"({', '.join(['%s'] * len(names))})"
    keys = sorted(found)
    with connection.cursor() as cursor:
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            values = []
            for key in some:
                of_month, day, *rest = key
                entry, numbers = found[key]
                values += [of_month, connection.ops.adapt_datefield_value(day), *rest, entry, *numbers]
            cursor.execute(
                f"INSERT INTO cleanup_daysum ({', '.join(names)}) VALUES {', '.join([row] * len(some))} "
                f"ON CONFLICT ({', '.join(KEYS)}) DO UPDATE SET {changes}",
                values,
            )


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0025_receipts'),
    ]

    operations = [
        migrations.CreateModel(
            name='DaySum',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('of_month', models.BooleanField(default=False)),
                ('day', models.DateField()),
                ('zone', models.CharField(max_length=64)),
                ('dimension', models.CharField(choices=[('equipment', 'instrument'), ('project', 'Project'), ('person', 'Person'), ('trigger', 'Trigger'), ('policy', 'Policy'), ('root', 'staging root'), ('proof', 'Proof'), ('refusal', 'reason of a refusal'), ('duration', 'time from verification to clearing')], max_length=9)),
                ('key', models.CharField(blank=True, max_length=255)),
                ('key2', models.CharField(blank=True, max_length=255, verbose_name='instrument of a duration')),
                ('first_entry', models.BigIntegerField(verbose_name='key of the first row in it')),
                ('entries', models.BigIntegerField(verbose_name='rows')),
                ('clears', models.BigIntegerField(verbose_name='rows that are the first of their attempt')),
                ('files', models.BigIntegerField()),
                ('bytes_upper', models.BigIntegerField(verbose_name='logical bytes, upper half')),
                ('bytes_lower', models.BigIntegerField(verbose_name='logical bytes, lower half')),
                ('allocated_upper', models.BigIntegerField(verbose_name='allocated bytes, upper half')),
                ('allocated_lower', models.BigIntegerField(verbose_name='allocated bytes, lower half')),
                ('measured_upper', models.BigIntegerField(verbose_name='measured bytes, upper half')),
                ('measured_lower', models.BigIntegerField(verbose_name='measured bytes, lower half')),
                ('measured_of_upper', models.BigIntegerField(verbose_name='measured of these bytes, upper half')),
                ('measured_of_lower', models.BigIntegerField(verbose_name='measured of these bytes, lower half')),
            ],
            options={
                'ordering': ('of_month', 'day', 'dimension', 'key', 'key2', 'zone'),
                'indexes': [models.Index(fields=['dimension', 'key', 'of_month', 'day'], name='day_sum_by_key')],
                'constraints': [models.UniqueConstraint(fields=('of_month', 'day', 'dimension', 'key', 'key2', 'zone'), name='one_sum_per_day_and_key')],
            },
        ),
        # For the rows behind a number.
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('kind__in', ['completed', 'partial'])), fields=['at', 'id'], name='ledger_freeing_by_time'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('kind__in', ['completed', 'partial'])), fields=['equipment', 'at', 'id'], name='ledger_freeing_by_instrument'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('kind__in', ['completed', 'partial'])), fields=['project', 'at', 'id'], name='ledger_freeing_by_project'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('kind__in', ['completed', 'partial'])), fields=['actor', 'at', 'id'], name='ledger_freeing_by_person'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
