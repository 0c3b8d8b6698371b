"""The words by which a search finds runs, the same on every database."""

import functools
import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, ClassVar

from django.db import models

from cleanup.models.runs import Run
from cleanup.rules.folded_text import fold_for_search

_USUAL = re.compile(r"(?:test)?run_(\d{4}-\d{2}-\d{2})t(\d{2}-\d{2}(?:-\d{2})?)", re.ASCII)
# Letters may become three when their case is folded; of very few that become more the end is lost.
_LONGEST = 3 * 64
_AT_ONCE = 1_000


class WordKind(models.TextChoices):
    """The day or the time in the name of a run, or the whole name where it is another one."""

    DAY = "d"
    TIME = "t"
    OTHER = "o"


class RunWord(models.Model):
    """One word of a run's name, with its case folded. Instruments, projects and titles have their own tables."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="search_words", db_index=False)
    kind = models.CharField(max_length=1, choices=WordKind)
    text = models.CharField(max_length=_LONGEST)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "kind"], name="one_search_word_of_a_kind_per_run"),
        ]
        indexes: ClassVar = [models.Index(fields=["kind", "text", "run"], name="run_word_by_text")]

    def __str__(self) -> str:
        return self.text


def keep(runs: Iterable[Run]) -> None:
    """Write the words of new runs, in the transaction of their rows; one statement for a thousand runs."""
    rows = [RunWord(run_id=run.pk, kind=kind, text=text) for run in runs for kind, text in words_of(run.leaf)]
    RunWord.objects.bulk_create(rows, batch_size=2 * _AT_ONCE, ignore_conflicts=True)


def keep_new(instance: Run, created: bool, **kwargs: Any) -> None:  # noqa: ANN401
    """A handler of `post_save`: code that makes a run need not write its words. `bulk_create` sends no such signal."""
    if created:
        keep([instance])


def words_of(leaf: str) -> list[tuple[str, str]]:
    """(kind, text) of the words in the name of a run."""
    folded = fold_for_search(leaf)[:_LONGEST]
    usual = _USUAL.fullmatch(folded)
    if usual is None or usual[1] not in days() or usual[2] not in times():
        return [(WordKind.OTHER, folded)]
    return [(WordKind.DAY, usual[1]), (WordKind.TIME, usual[2])]


@functools.cache
def days() -> dict[str, None]:
    """All days that a name may have, in order: a search looks through them."""
    first = date(1970, 1, 1)
    return {f"{first + timedelta(days=number):%Y-%m-%d}": None for number in range((date(2100, 1, 1) - first).days)}


@functools.cache
def times() -> dict[str, None]:
    """All times of a day, to the minute and to the second."""
    minutes = [f"{hour:02}-{minute:02}" for hour in range(24) for minute in range(60)]
    return dict.fromkeys([*minutes, *(f"{minute}-{second:02}" for minute in minutes for second in range(60))])
