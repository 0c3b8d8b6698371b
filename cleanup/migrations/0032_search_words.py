# The words of each run's name, for a search without regard to case; what tells polling pages that nothing changed.

import re
from datetime import date

import django.db.models.deletion
from django.db import migrations, models

BATCH = 20_000
USUAL = re.compile(r"(?:test)?run_((\d{4})-(\d{2})-(\d{2}))t((\d{2})-(\d{2})(?:-(\d{2}))?)", re.ASCII)


def fill(apps, schema_editor):
    """Write the words of all runs, some at a time; twice is harmless."""
    Run, RunWord = apps.get_model("cleanup", "Run"), apps.get_model("cleanup", "RunWord")
    last = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for first in range(0, last, BATCH):
        some = Run.objects.filter(pk__gt=first, pk__lte=first + BATCH).order_by().values_list("pk", "leaf")
        rows = [RunWord(run_id=key, kind=kind, text=text) for key, leaf in some for kind, text in words_of(leaf)]
        RunWord.objects.bulk_create(rows, batch_size=2_000, ignore_conflicts=True)


def words_of(leaf):
    folded = leaf.casefold()
    usual = USUAL.fullmatch(folded)
    if usual is None or not exists(usual):
        return [("o", folded)]
    return [("d", usual[1]), ("t", usual[5])]


def exists(usual):
    year, month, day, hour, minute, second = (int(usual[group] or 0) for group in (2, 3, 4, 6, 7, 8))
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1970 <= year < 2100 and hour < 24 and minute < 60 and second < 60


def forget_changes(apps, schema_editor):
    """On the way back: a trigger that stays would write to a table that is gone."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION IF EXISTS cleanup_changed() CASCADE")


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0031_proving'),
    ]

    operations = [
        migrations.CreateModel(
            name='NotedChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('mark', models.BigIntegerField(unique=True)),
                ('at', models.DateTimeField()),
            ],
            options={'db_table': 'cleanup_change'},
        ),
        migrations.CreateModel(
            name='RunWord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('d', 'Day'), ('t', 'Time'), ('o', 'Other')], max_length=1)),
                ('text', models.CharField(max_length=192)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='search_words', to='cleanup.run')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('run', 'kind'), name='one_search_word_of_a_kind_per_run')],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name='runword',
            index=models.Index(fields=['kind', 'text', 'run'], name='run_word_by_text'),
        ),
        migrations.RunPython(migrations.RunPython.noop, forget_changes),
    ]
