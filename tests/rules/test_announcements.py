"""When operators are told what is coming."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.rules.announcements import AnnouncedAmount, is_much, is_news, last_evening, told_until

pytestmark = pytest.mark.one_engine(by="function")


ZURICH = ZoneInfo("Europe/Zurich")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("now", "began", "until"),
    [
        ("2026-06-15T18:00", "2026-06-15T18:00", "2026-06-17T00:00"),
        ("2026-06-15T23:59", "2026-06-15T18:00", "2026-06-17T00:00"),
        ("2026-06-16T00:00", "2026-06-15T18:00", "2026-06-16T18:00"),
        ("2026-06-16T17:59", "2026-06-15T18:00", "2026-06-16T18:00"),
        ("2026-10-24T18:00", "2026-10-24T18:00", "2026-10-26T00:00"),  # a night of an hour more
        ("2026-03-29T12:00", "2026-03-28T18:00", "2026-03-29T18:00"),  # after one of an hour less
    ],
)
def test_the_evening_is_at_six_in_the_labs_zone(now: str, began: str, until: str) -> None:
    assert last_evening(at(now).astimezone(UTC), ZURICH) == at(began)
    assert told_until(at(now).astimezone(UTC), ZURICH).replace(tzinfo=None) == datetime.fromisoformat(until)


@settings(max_examples=20)
@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))
def test_every_pass_is_told_in_the_evening_before_it_begins(begins: datetime) -> None:
    evening = last_evening(begins, ZURICH)
    assert evening <= begins < told_until(evening, ZURICH)
    if begins - evening < 6 * HOUR:  # a pass right after one evening was told of in the one before it
        assert begins < told_until(last_evening(evening - HOUR, ZURICH), ZURICH) + HOUR


@pytest.mark.parametrize(
    ("runs", "size", "much"), [(0, 0, False), (10, 50, False), (11, 0, True), (1, 51, True), (1, 50, False)]
)
def test_more_than_ten_runs_or_a_twentieth_of_the_bytes_is_much(runs: int, size: int, much: bool) -> None:
    assert is_much(AnnouncedAmount(runs=runs, bytes=size), staged_bytes=1000) is much


def test_news_is_what_was_not_told() -> None:
    def news(coming: int, untold: int, *, told: bool, first: tuple[int, ...] = ()) -> bool:
        amounts = AnnouncedAmount(runs=coming), AnnouncedAmount(runs=untold)
        return is_news(*amounts, staged_bytes=1000, told_this_evening=told, first_of=frozenset(first))

    assert news(34, 34, told=False)
    assert not news(34, 0, told=True)
    assert not news(36, 2, told=True)
    assert news(45, 11, told=True)
    assert news(12, 2, told=False)  # a new evening, although most of them were told before
    assert not news(3, 3, told=False)
    assert news(1, 1, told=True, first=(5,))
    assert not news(1, 0, told=True, first=(5,))
