"""A day of a hold counts whole in the lab's zone."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.lab import days
from cleanup.lab.days import NoInstant
from cleanup.management.base import UsageError
from cleanup.models import Hold, Run
from cleanup.runs import discovery
from cleanup.sweeps import all_roots
from tests.tools.lab import RUN_PATH, Lab

ZONES = ("UTC", "Europe/Zurich", "America/Los_Angeles", "Asia/Kolkata", "America/Havana", "America/Santiago")


@pytest.fixture
def zone(settings: Any) -> Any:
    def set_to(name: str) -> None:
        settings.TIME_ZONE = name

    return set_to


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("UTC", "2027-01-05", "2027-01-06T00:00"),
        ("Europe/Zurich", "2027-01-05", "2027-01-05T23:00"),
        ("Europe/Zurich", "2026-07-31", "2026-07-31T22:00"),
        ("America/Los_Angeles", "2027-01-05", "2027-01-06T08:00"),
        # the day on which clocks go forward, and the one on which they go back
        ("Europe/Zurich", "2027-03-28", "2027-03-28T22:00"),
        ("Europe/Zurich", "2026-10-25", "2026-10-25T23:00"),
        # where they are set at midnight: the next day begins at one o'clock, or its first hour comes twice
        ("America/Santiago", "2026-09-05", "2026-09-06T04:00"),
        ("America/Havana", "2026-03-07", "2026-03-08T05:00"),
        # an instant, with a zone and without
        ("Europe/Zurich", "2027-01-05T18:00:00Z", "2027-01-05T18:00"),
        ("Europe/Zurich", "2027-01-05T18:00:00-05:00", "2027-01-05T23:00"),
        ("Europe/Zurich", "2027-01-05T18:00:00", "2027-01-05T17:00"),
        ("Europe/Zurich", "2027-01-05T18:00", "2027-01-05T17:00"),
        ("Europe/Zurich", "2027-01-05 18:00", "2027-01-05T17:00"),
        ("UTC", "2027-01-05 18:00 Asia/Kolkata", "2027-01-05T12:30"),
        # an hour that comes twice, and one that there is not: never the earlier of two
        ("Europe/Zurich", "2026-10-25T02:30:00", "2026-10-25T01:30"),
        ("Europe/Zurich", "2027-03-28T02:30:00", "2027-03-28T01:30"),
        # its own zone
        ("UTC", "2027-01-05 Europe/Zurich", "2027-01-05T23:00"),
        ("UTC", "2027-01-05[America/Los_Angeles]", "2027-01-06T08:00"),
        ("UTC", "2027-01-05T18:00 Asia/Kolkata", "2027-01-05T12:30"),
    ],
)
def test_a_day_ends_where_the_lab_is(zone: Any, name: str, text: str, expected: str) -> None:
    zone(name)
    assert days.read_until(text).at == datetime.fromisoformat(f"{expected}:00+00:00")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "neither a day"),
        ("", "neither a day"),
        ("2027-02-30", "There is no day 2027-02-30"),
        ("2027-01-05 Europe/Zuerich", "no time zone Europe/Zuerich"),
        ("2027-01-05[]", "no time zone"),
        ("2027-01-05 ../../etc/passwd", "no time zone"),
        ("9999-12-31", "too far away"),
        ("2027-01-05T25:00:00", "neither a day"),
        ("2027-01-05 25:00", "neither a day"),
    ],
)
def test_what_is_no_end_is_a_sentence(zone: Any, text: str, words: str) -> None:
    with pytest.raises(NoInstant, match=words):
        days.read_until(text)


@given(st.sampled_from(ZONES), st.dates(date(2026, 1, 1), date(2031, 12, 31)))
@settings(max_examples=100, derandomize=True, database=None)
def test_every_moment_of_the_day_lies_before_its_end_and_none_of_the_next(name: str, day: date) -> None:
    with timezone.override(name):
        end = days.end_of(day, timezone.get_current_timezone())
        assert timezone.localtime(end - timedelta(microseconds=1)).date() == day
        assert timezone.localtime(end).date() == day + timedelta(days=1)


# On the command line


@pytest.fixture
def run(lab: Lab, root: Any, now: datetime) -> Run:
    lab.run()
    discovery.discover(root, now=now)
    return Run.objects.with_root().get()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "until", "said"),
    [
        (
            "Europe/Zurich",
            "2027-01-06T00:00:00+01:00",
            "2027-01-06 00:00:00 CET (Europe/Zurich, the end of 2027-01-05)",
        ),
        ("America/Los_Angeles", "2027-01-06T00:00:00-08:00", "2027-01-06 00:00:00 PST (America/Los_Angeles, the end"),
    ],
)
def test_the_command_holds_to_the_end_of_the_day_and_names_that_moment(
    run: Run, lab: Lab, zone: Any, policy: Any, name: str, until: str, said: str
) -> None:
    zone(name)
    policy(mode="scheduled", retain_hours=1, rehearse=False, max_share=1.0)
    end = datetime.fromisoformat(until)
    with time_machine.travel(datetime(2026, 12, 31, tzinfo=UTC), tick=False):
        out = StringIO()
        call_command("hold", RUN_PATH, "--until", "2027-01-05", "--reason", "x", stdout=out)
        assert f"held {RUN_PATH} until {said}" in out.getvalue()
        out = StringIO()
        call_command("hold", RUN_PATH, "--until", "2027-01-05", "--reason", "x", "--json", stdout=out)
        assert json.loads(out.getvalue())["hold"]["until"] == until
    assert Hold.objects.get().until == end
    for at, there in ((end - timedelta(minutes=1), True), (end, False)):
        with time_machine.travel(at, tick=False):
            all_roots.sweep(now=at, timed=True)
        assert (lab.staging / RUN_PATH).exists() is there


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("2027-01-04", "2027-01-04 is over since 2027-01-05 00:00:00 CET .*must lie in the future"),
        ("2027-01-05T09:00", "that is over since 2027-01-05 09:00:00 CET"),
        ("2027-01-05 Mars/Base", "no time zone Mars/Base"),
        ("tomorrow", "neither a day"),
    ],
)
def test_an_end_that_is_over_or_none_is_exit_2(run: Run, zone: Any, until: str, words: str) -> None:
    zone("Europe/Zurich")
    with (
        time_machine.travel(datetime(2027, 1, 5, 9, tzinfo=UTC), tick=False),
        pytest.raises(UsageError, match=words) as refused,
    ):
        call_command("hold", RUN_PATH, "--until", until, "--reason", "x")
    assert refused.value.returncode == 2
    assert not Hold.objects.exists()


@pytest.mark.django_db
def test_today_is_not_over(run: Run, zone: Any) -> None:
    zone("America/Los_Angeles")
    with time_machine.travel(datetime(2027, 1, 6, 7, 59, tzinfo=UTC), tick=False):
        call_command("hold", RUN_PATH, "--until", "2027-01-05", "--reason", "x", stdout=StringIO())
    assert Hold.objects.get().until == datetime(2027, 1, 6, 8, tzinfo=UTC)


@pytest.mark.django_db(transaction=True)
def test_the_zone_is_the_setting(run: Run, subprocess_env: dict[str, str]) -> None:
    """Takes 1 s: it starts the command."""
    command = [sys.executable, "manage.py", "hold", RUN_PATH, "--until", "2031-01-05", "--reason", "x", "--json"]
    env = {**os.environ, **subprocess_env, "EXLAB_TIME_ZONE": "America/Los_Angeles"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["hold"]["until"] == "2031-01-06T00:00:00-08:00"


@pytest.mark.parametrize(
    ("name", "until", "said"),
    [
        ("Europe/Zurich", "2026-12-06T23:00:00+00:00", "the end of 6 December"),
        ("UTC", "2026-12-06T23:00:00+00:00", "6 December, 23:00"),
        ("UTC", "2027-01-01T00:00:00+00:00", "the end of 31 December"),
        ("Europe/Zurich", "2026-12-31T23:30:00+00:00", "1 January 2027, 00:30"),
        ("Africa/Cairo", "2026-04-23T22:00:00+00:00", "the end of 23 April"),  # the next day has no midnight there
    ],
)
def test_an_end_is_said_as_people_mean_it(zone: Any, name: str, until: str, said: str) -> None:
    zone(name)
    now = datetime.fromisoformat("2026-01-20T08:00:00+00:00")
    assert days.say_end(datetime.fromisoformat(until), now) == said
    of_a_mail = days.say_end(datetime.fromisoformat(until), now, with_zone=True)
    assert of_a_mail == said or of_a_mail.startswith(f"{said} ")
