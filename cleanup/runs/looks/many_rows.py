"""What looks at many runs saw, written down in one transaction."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import DatabaseError, connection, transaction

from cleanup.models import Run, Status
from cleanup.rules.facts import Facts
from cleanup.rules.states import State
from cleanup.runs import rows, run_people
from cleanup.runs.rows import Seen

logger = logging.getLogger(__name__)

# As `rows.store` says it, with what `likenesses.note` left to it.
_STORE = """UPDATE cleanup_run SET facts = %s, problem = %s, looked_at = %s, traits = %s, manifest_sha256 = %s,
    files = COALESCE(%s, files), bytes = COALESCE(%s, bytes), failures = CASE WHEN %s THEN 0 ELSE failures END,
    doubts = doubts + CASE WHEN %s OR tone = %s THEN 1 ELSE 0 END, seen = %s, seen_doubts = %s, changed_at = %s
    WHERE id = %s AND gone_at IS NULL AND state <> %s"""


@dataclass(frozen=True)
class Looked:
    """A look that is over: the run's row, the facts, and `new`, `updated` or `unchanged` for its history.

    `people`: whom its record names, None if that was not read.
    """

    run: Run
    facts: Facts
    change: str
    people: tuple[str, ...] | None = None


def store_all(looked: Sequence[Looked], now: datetime) -> list[Looked]:
    """Keep what was seen of some hundred runs; returns the looks, `updated` where that is new."""
    run_people.keep((each.run, each.people) for each in looked)
    news = _store_together([each for each in looked if each.run.state != State.CLEARED], now)
    return [
        _changed(each, news[each.run.pk] if each.run.pk in news else rows.store(each.run, each.facts, now))
        for each in looked
    ]


def _changed(looked: Looked, is_news: bool) -> Looked:
    return replace(looked, change="updated") if is_news and looked.change == "unchanged" else looked


def _store_together(looked: Sequence[Looked], now: datetime) -> dict[int, bool]:
    # Rows that another transaction holds are left out: to wait for them with others locked could deadlock.
    if not looked:
        return {}
    seen = {each.run.pk: Seen.of(each.run, each.facts, now) for each in looked}
    try:
        with transaction.atomic():
            locked = Run.objects.select_for_update(no_key=True, skip_locked=True, of=("self",)).filter(pk__in=seen)
            free = set(locked.order_by().values_list("pk", flat=True))
            written = [each for each in looked if each.run.pk in free]
            with connection.cursor() as cursor:
                cursor.executemany(_STORE, [_values_of(each, seen[each.run.pk], now) for each in written])
    except DatabaseError:
        logger.exception("%s looks cannot be written down together", len(looked))
        return {}
    return {each.run.pk: seen[each.run.pk].is_news for each in written}


def _values_of(looked: Looked, seen: Seen, now: datetime) -> tuple[Any, ...]:
    run, facts = looked.run, looked.facts
    counts = (None, None) if facts.files is None else (facts.files, facts.bytes)
    said = {"facts": seen.facts, "problem": seen.problem, "looked_at": now}
    fields = {field.name: field for field in Run._meta.concrete_fields}
    columns = [fields[name].get_db_prep_save(value, connection) for name, value in said.items()]
    marks = (run.traits, run.manifest_sha256)
    changed_at = fields["changed_at"].get_db_prep_save(run.changed_at, connection)
    tree = (run.seen, seen.doubts, changed_at)
    news = (seen.is_news, seen.is_news, Status.BLOCK.value)
    return (*columns, *marks, *counts, *news, *tree, run.pk, State.CLEARED.value)
