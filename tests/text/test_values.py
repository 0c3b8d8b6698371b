"""The words of the pages: bytes, durations, instants and hostile names."""

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from cleanup.rules.reasons import Reason
from cleanup.text import values

pytestmark = pytest.mark.one_engine


NOW = datetime(2026, 4, 17, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, values.UNKNOWN),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (18_432_000_000, "18.4 GB"),
        (412_800_000_000, "412.8 GB"),
        (999_949, "999.9 kB"),
        (999_950, "1.00 MB"),
        (1_310_000_000_000, "1.31 TB"),
        (5 * 10**20, "500.0 EB"),
        (5 * 10**21, "5000.0 EB"),
    ],
)
def test_bytes_in_decimal_units(size, expected):
    assert values.in_units(size) == expected


def test_exact_bytes():
    assert values.exact_bytes(412_800_000_000) == "412,800,000,000 bytes"
    assert values.exact_bytes(1) == "1 byte"
    assert values.exact_bytes(None) == "size unknown"


def test_counts_with_their_noun():
    assert values.files(1) == "1 file"
    assert values.files(1204) == "1,204 files"
    assert values.runs(0) == "0 runs"
    assert values.count(None) == values.UNKNOWN


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (None, values.UNKNOWN),
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=0), "0 s"),
        (timedelta(milliseconds=200), "1 s"),
        (timedelta(seconds=45), "45 s"),
        (timedelta(seconds=61), "2 min"),
        (timedelta(minutes=59, seconds=59), "1 h"),
        (timedelta(hours=6, minutes=12), "6 h 12 m"),
        (timedelta(hours=6, minutes=11, seconds=1), "6 h 12 m"),
        (timedelta(hours=23, minutes=59, seconds=30), "1 day"),
        (timedelta(days=2, hours=4), "2 days 4 h"),
        (timedelta(days=23, hours=4), "23 days"),
    ],
)
def test_durations_never_promise_too_soon(length, expected):
    assert values.duration(length) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=12), "12 s ago"),
        (timedelta(minutes=2, seconds=59), "2 min ago"),
        (timedelta(hours=2, minutes=59), "2 h ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=6, hours=23), "6 days ago"),
        (timedelta(hours=-6, minutes=-12), "in 6 h 12 m"),
    ],
)
def test_ago(before, expected):
    assert values.ago(NOW - before, NOW) == expected


def test_ago_of_nothing():
    assert values.ago(None, NOW) == "never"


def test_an_instant_names_its_zone(settings):
    assert values.instant(NOW) == "2026-04-17 12:00"
    assert values.exact_instant(NOW) == "2026-04-17 12:00:00 UTC"
    shown = '<time datetime="2026-04-17T12:00:00+00:00" title="2026-04-17 12:00:00 UTC">2026-04-17 12:00</time>'
    assert values.dated(NOW) == values.said(NOW) == shown
    assert values.said("<b>\u202e" + "x" * 300) == "<b>\\u202e" + "x" * 290 + "…"
    assert values.dated(None) == values.exact_instant(None) == "never"
    assert values.instant(None) == "never"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cortex Q3 Pilot, grün: Überblick", "Cortex Q3 Pilot, grün: Überblick"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("two\nlines\t\x00\x7f", r"two\x0alines\x09\x00\x7f"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("bad\udcff", r"bad\udcff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("line\u2028end", r"line\u2028end"),
    ],
)
def test_unseen_characters_are_spelled_out(text, expected):
    assert values.visible(text) == expected


def test_visible_text_is_still_escaped():
    page = Template("{% load words %}{{ name|visible }}").render(Context({"name": "<b>\u202e"}))
    assert page == r"&lt;b&gt;\u202e"


def test_every_reason_has_its_sentence_and_an_unknown_code_stands_as_it_is():
    assert values.sentence(Reason.NOT_QUIET) == Reason.NOT_QUIET.sentence
    assert values.sentence("from_the_future") == "from_the_future"
