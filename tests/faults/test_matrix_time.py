"""The fault matrix: wrong clocks, invalid instants, and the exact second at which a run is due."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.lab import policy_versions
from cleanup.rules.reasons import Reason
from tests.faults.cases import (
    TILE,
    Answer,
    Case,
    Stage,
    cleared,
    clears,
    matrix,
    timed,
)
from tests.faults.test_matrix_ingest import edit
from tests.tools.lab import touch

pytestmark = pytest.mark.one_engine


NOW = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)


def at(instant: object) -> Callable[[Path], None]:
    return lambda run: edit(run, lambda record: record["history"][-1].update(at=instant))


def verified(**before: float) -> dict[str, Any]:
    return {"verified_at": NOW - timedelta(**before)}


def of_unknown_time(instant: object) -> Case:
    return Case(Reason.NO_VERIFIED_TIMESTAMP, spoil=at(instant))


def ahead(**more: Any) -> Case:
    """The clock's reason is shown before that of retention."""
    return Case(Reason.CLOCK_UNTRUSTED, **more)


def scheduled(**policy: Any) -> Callable[[Stage], Answer]:
    def act(stage: Stage) -> Answer:
        scope = {"equipment": "CONFOCAL_01", "project": "PROJ-0042"}
        policy_versions.add_version(author="admin", now=stage.now, **scope, **policy)
        stage.note()
        return replace(timed(stage), shown="")  # the page names another instant

    return act


def kept(hours: float, **more: Any) -> Case:
    return Case(
        Reason.RETENTION_NOT_ELAPSED,
        action="skipped",
        act=scheduled(mode="scheduled", retain_hours=hours),
        **more,
    )


def due(hours: float, **more: Any) -> Case:
    return Case(None, action="cleared", then=cleared, act=scheduled(mode="scheduled", retain_hours=hours), **more)


def dated(instant: datetime) -> Callable[[Stage], None]:
    return lambda stage: touch(stage.path / TILE, instant)


CASES = {
    # instants that are none
    "a word": of_unknown_time("yesterday"),
    "nothing": of_unknown_time(""),
    "null": of_unknown_time(None),
    "a number": of_unknown_time(1776442543),
    "a list": of_unknown_time(["2026-04-17T16:15:43Z"]),
    "a thirteenth month": of_unknown_time("2026-13-40T00:00:00Z"),
    "the thirtieth of february": of_unknown_time("2026-02-30T00:00:00Z"),
    "a date alone": of_unknown_time("2026-04-17"),
    "week and day": of_unknown_time("2026-W16-5T16:15:43Z"),
    "other digits": of_unknown_time("2026-04-17T16:15:4\u0663Z"),
    "the year 9999": of_unknown_time("9999-12-31T23:59:59Z"),
    "before all clocks": of_unknown_time("0001-01-01T00:00:00+14:00"),
    "an offset of days": of_unknown_time("2026-04-17T16:15:43+99:99"),
    # clocks that are wrong
    "verified six minutes ahead": ahead(built=verified(minutes=-6)),
    "verified years ahead": ahead(built=verified(days=-3000)),
    "verified ahead in another zone": ahead(spoil=at("2026-06-15T08:06:00-00:30")),
    "a file from the future": Case(Reason.FUTURE_DATED, dated(NOW + timedelta(days=300))),
    "a file from the end of time": Case(Reason.FUTURE_DATED, dated(datetime(2440, 1, 1, tzinfo=UTC))),
    # the policy
    "a policy of hands": Case(Reason.POLICY_MANUAL, action="skipped", act=scheduled(mode="manual", retain_hours=0)),
    "no policy": Case(Reason.POLICY_MANUAL, action="skipped", act=timed),
    # the very second
    "a second before it is due": kept(24, built=verified(hours=24, seconds=-1)),
    "at the second when it is due": due(24, built=verified(hours=24)),
    "a millisecond before it is due": kept(24, spoil=at("2026-06-14T08:00:00.001Z")),
    "kept for ever": kept(87_660),
    "kept for no time at all": due(0, built=verified(minutes=11)),
    "due in half an hour": kept(1.5, built=verified(hours=1)),
    # offsets: all these are 2026-06-14T08:00:00Z, or a second later
    "due by another zone": due(24, spoil=at("2026-06-14T10:00:00+02:00")),
    "kept by another zone": kept(24, spoil=at("2026-06-14T10:00:01+02:00")),
    "due by a zone to the west": due(24, spoil=at("2026-06-13T20:00:00-12:00")),
    "kept by a zone to the west": kept(24, spoil=at("2026-06-13T20:00:01-12:00")),
    "due by a half-hour zone": due(24, spoil=at("2026-06-14T13:30:00+05:30")),
    "due without a zone": due(24, spoil=at("2026-06-14T08:00:00")),
    # the hour that summer time skips, 2026-03-29 02:30 in Berlin, and the one that comes twice, told by their offsets
    "kept over the hour that is skipped": kept(1878.5, spoil=at("2026-03-29T03:30:01+02:00")),
    "due over the hour that is skipped": due(1878.5, spoil=at("2026-03-29T02:30:00+01:00")),
    # what is no obstacle
    "verified four minutes ahead": clears(built=verified(minutes=-4), by_hand=True),
    "a file of 1970": clears(dated(datetime(1970, 1, 1, tzinfo=UTC))),
    "a file from before 1970": clears(dated(datetime(1955, 11, 5, tzinfo=UTC))),
    "fractions of a second": clears(spoil=at("2026-04-17T16:15:43.123456789Z")),
    "a policy of hands, and a hand": clears(by_hand=True),
}


RARE = {
    "nothing",
    "a number",
    "a list",
    "the thirtieth of february",
    "a date alone",
    "other digits",
    "an offset of days",
    "verified years ahead",
    "a file from the end of time",
    "no policy",
    "due by a zone to the west",
    "kept by a zone to the west",
    "due by a half-hour zone",
    "kept for ever",
    "a file from before 1970",
}


@matrix("time", CASES, rare=RARE)
def test_time(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
