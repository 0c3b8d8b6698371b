# Sums of the ledger by day and month, in the lab's zone, filled from the rows that there are.

from bisect import bisect_left
from datetime import UTC, datetime, time, timedelta
from operator import add

from django.conf import settings
from django.db import migrations, models
from django.db.models import Count, Exists, Min, OuterRef, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

FREEING = ("completed", "partial")
REFUSING = ("refused", "aborted", "conflict")
KEYS = ("of_month", "day", "dimension", "key", "key2", "zone")
HALVES = [f"{name}_{half}" for name in ("bytes", "allocated", "measured", "measured_of") for half in ("upper", "lower")]
NUMBERS = ("entries", "clears", "files", *HALVES)
HOURS = (1, 2, 4, 8, 12, 18, 24, 30, 36, 42, 48, 60, 72)
DAYS = (4, 5, 6, 7, 8, 10, 12, 14, 21, 30, 45, 60, 90, 120, 180, 365, 730)
BUCKETS = [*(timedelta(hours=hours) for hours in HOURS), *(timedelta(days=days) for days in DAYS)]
ROW = ("equipment", "project", "actor", "requester", "typed_by", "cause", "decided_by", "policy_version", "root_name")
ROW += ("proof_level", "pk", "at", "run__verified_at", "had", "files", "bytes", "allocated_bytes", "measured_bytes")
AT_ONCE = 200


def fill(apps, schema_editor):
    """Add up the rows a day at a time, then the days of each month."""
    rows = apps.get_model("cleanup", "LedgerEntry").objects.order_by()
    day = next_day(rows, None)
    while day is not None:
        first, after = (begin_of(one) for one in (day, day + timedelta(days=1)))
        write(schema_editor.connection, day, add_up(rows, Q(at__gte=first, at__lt=after)))
        day = next_day(rows, after)
    write_months(schema_editor.connection)


def next_day(rows, after):
    """The day of the first row from an instant on."""
    later = rows if after is None else rows.filter(at__gte=after)
    at = later.aggregate(first=Min("at"))["first"]
    return None if at is None else timezone.localtime(at, timezone.get_default_timezone()).date()


def begin_of(day):
    return datetime.combine(day, time.min, tzinfo=timezone.get_default_timezone()).astimezone(UTC)


def add_up(rows, within):
    """The first row and the numbers of each dimension, key and key2."""
    earlier = rows.filter(attempt=OuterRef("attempt"), kind__in=FREEING, pk__lt=OuterRef("pk"))
    # As literals: SQLite sees only then that the partial index will do.
    freeing = rows.filter(within, kind__in=[RawSQL(f"'{kind}'", ()) for kind in FREEING])
    found = {}
    for row in freeing.annotate(had=Exists(earlier)).values_list(*ROW).iterator(chunk_size=2_000):
        *_of, pk, at, verified_at, had, files, size, allocated, measured = row
        numbers = (1, int(not had), files, size, allocated, *((0, 0) if measured is None else (measured, allocated)))
        values = of_freeing(row)
        if not had:
            values.append(("duration", bucket(verified_at, at), row[0]))
        for value in values:
            first, before = found.get(value, (pk, None))
            found[value] = min(first, pk), numbers if before is None else tuple(map(add, before, numbers))
    refused = rows.filter(within, kind__in=REFUSING).values_list("reason")
    for reason, first, number in refused.annotate(first=Min("pk"), number=Count("pk")):
        found["refusal", reason, ""] = first, (number, 0, 0, 0, 0, 0, 0)
    return found


def of_freeing(row):
    equipment, project, actor, requester, typed_by, cause, by, policy_version, root_name, proof_level = row[:10]
    scheduled = "pressure" if cause and "retention" not in cause.split("+") else "schedule"
    clicked = "command" if typed_by else "click"
    versions = {by[name].get("version") or 0 for name in ("mode", "retain_hours", "proof") if name in by}
    policy = "+".join(str(version) for version in sorted(versions)) if versions else f"?{policy_version}"
    return [
        ("equipment", equipment, ""),
        ("project", project, ""),
        ("person", actor, ""),
        ("trigger", clicked if requester == "operator" else scheduled, ""),
        ("policy", policy, ""),
        ("root", root_name, ""),
        ("proof", proof_level, ""),
    ]


def bucket(verified_at, at):
    if verified_at is None:
        return "unknown"
    place = bisect_left(BUCKETS, at - verified_at)
    return str(BUCKETS[place] // timedelta(seconds=1)) if place < len(BUCKETS) else "longer"


def write(connection, day, found):
    names = (*KEYS, "first_entry", *NUMBERS)
    row = f"({', '.join(['%s'] * len(names))})"
    keys = sorted(found)
    of_day = (False, connection.ops.adapt_datefield_value(day))
    with connection.cursor() as cursor:
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            values = []
            for key in some:
                first, (entries, clears, files, *sizes) = found[key]
                halves = [half for size in sizes for half in (size >> 32, size & (1 << 32) - 1)]
                values += [*of_day, *key, settings.TIME_ZONE, first, entries, clears, files, *halves]
            cursor.execute(
                f"INSERT INTO cleanup_daysum ({', '.join(names)}) VALUES {', '.join([row] * len(some))}", values
            )


def write_months(connection):
    """Sums of the halves, which never overflow; their upper ends need not be carried over."""
    month = "date(day, 'start of month')" if connection.vendor == "sqlite" else "CAST(date_trunc('month', day) AS date)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO cleanup_daysum ({', '.join((*KEYS, 'first_entry', *NUMBERS))}) "
            f"SELECT true, {month}, dimension, key, key2, zone, MIN(first_entry), "
            f"{', '.join(f'SUM({name})' for name in NUMBERS)} "
            f"FROM cleanup_daysum WHERE NOT of_month GROUP BY {month}, dimension, key, key2, zone"
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
