"""Durations, sizes, shares and counts, typed and printed."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules import quantities
from cleanup.rules.policies.policy import MAX_BUDGET_MINUTES, MAX_RETAIN_HOURS

pytestmark = pytest.mark.one_engine(by="function")


# Texts that `float` or `int` accept but that are mistakes, and plain nonsense.
NEVER = [
    "",
    " ",
    "-1",
    "+1",
    "-0",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1e400",
    "1e3",
    "1_000",
    "0x10",
    "١٢",  # Arabic digits
    "\uff13",  # a full-width digit
    "1,5",
    ".5",
    "1.",
    "1.2.3",
    "1 2",
    "24\n",
    "9" * 21,
    "9" * 5000,
    "24 fortnights",
    "d",
    "none",
]
PARSERS = [
    quantities.parse_hours,
    quantities.parse_minutes,
    quantities.parse_bytes,
    quantities.parse_share,
    quantities.parse_count,
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", NEVER)
def test_nonsense_is_refused_in_a_sentence(parse, text):
    with pytest.raises(ValueError, match=r" is no \w+") as refused:
        parse(text)
    assert "\n  " not in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_a_sane_value_or_a_refusal(text):
    for parse in PARSERS:
        try:
            value = parse(text)
        except ValueError:
            continue
        assert math.isfinite(value)
        assert 0 <= value <= quantities.MAX_BYTES


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("0", 0),
        ("24", 24),
        ("24h", 24),
        ("30d", 720),
        ("60m", 1),
        ("90 min", 1.5),
        ("3600s", 1),
        ("1.5", 1.5),
        ("7 days", 168),
        ("1D", 24),
        (str(int(MAX_RETAIN_HOURS)), MAX_RETAIN_HOURS),
    ],
)
def test_hours(text, hours):
    assert quantities.parse_hours(text) == hours


@pytest.mark.parametrize("text", ["87661", "3653d", "99999999999999999999"])
def test_absurd_hours_are_refused_with_the_bounds(text):
    with pytest.raises(ValueError, match="between 0 and 87660 hours"):
        quantities.parse_hours(text)


def test_minutes():
    assert quantities.parse_minutes("90") == 90
    assert quantities.parse_minutes("2h") == 120
    assert quantities.parse_minutes("30s") == 0.5
    assert quantities.parse_minutes("7d") == MAX_BUDGET_MINUTES
    for text in ("0", "0h", "8d"):
        with pytest.raises(ValueError, match="is no duration above 0"):
            quantities.parse_minutes(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("500GB", 500 * 10**9),
        ("500 gb", 500 * 10**9),
        ("1.5TB", 1_500_000_000_000),
        ("200GiB", 200 * 2**30),
        ("0.5KiB", 512),
        ("1000PB", 10**18),
    ],
)
def test_sizes(text, size):
    assert quantities.parse_bytes(text) == size
    assert isinstance(quantities.parse_bytes(text), int)


@pytest.mark.parametrize("text", ["1.5", "0.0001kB", "1001PB", "1024PiB", "5G", "5Gb/s", "50%"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="is no size such as"):
        quantities.parse_bytes(text)


def test_a_size_is_exact_where_a_float_is_not():
    assert quantities.parse_bytes("900000000000000001") == 900_000_000_000_000_001
    assert quantities.parse_bytes("0.1TB") == 100_000_000_000


def test_shares():
    assert quantities.parse_share("0.5") == quantities.parse_share("50%") == 0.5
    assert quantities.parse_share("1") == quantities.parse_share("100%") == 1
    for text in ("0", "0%", "1.01", "101%", "50"):
        with pytest.raises(ValueError, match="is no share"):
            quantities.parse_share(text)


def test_counts():
    assert quantities.parse_count("0") == 0
    assert quantities.parse_count("500") == 500
    for text in ("1.5", "1000000001", "12345678901"):
        with pytest.raises(ValueError, match="is no whole number"):
            quantities.parse_count(text)


@pytest.mark.parametrize(
    ("hours", "said"),
    [(0, "0 h"), (6, "6 h"), (24, "24 h"), (48, "2 days"), (168, "7 days"), (1 / 3, "20 min"), (1.5, "90 min")],
)
def test_hours_are_said_in_whole_numbers(hours, said):
    assert quantities.say_hours(hours) == said


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (1_500_000_000_000, "1.5 TB"), (500 * 10**9, "500 GB")],
)
def test_sizes_are_said_in_the_units_of_disks(size, said):
    assert quantities.say_bytes(size) == said


def test_one_is_no_plural():
    assert quantities.say_count(1, "run") == "1 run"
    assert quantities.say_count(0, "run") == "0 runs"
    assert quantities.say_count(2000, "run") == "2,000 runs"


@given(st.integers(0, quantities.MAX_BYTES))
def test_a_size_that_is_said_can_be_typed(size):
    assert quantities.parse_bytes(quantities.say_bytes(size)) == size


@given(st.integers(0, int(MAX_RETAIN_HOURS) * 3600))
def test_whole_seconds_that_are_said_can_be_typed(seconds):
    assert quantities.parse_hours(quantities.say_hours(seconds / 3600)) == pytest.approx(seconds / 3600)


# Sizes that stand together


def read(said: str) -> tuple[Decimal, Decimal]:
    """The bytes that a person reads, and those of the last digit."""
    number, unit = said.replace(",", "").split()
    factor = Decimal(1000) ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit)
    return Decimal(number) * factor, Decimal(10) ** Decimal(number).as_tuple().exponent * factor


@given(st.lists(st.integers(0, 10**16), min_size=1, max_size=30), st.integers(1, 10**16))
def test_shown_sizes_add_up_to_the_shown_sum(sizes, other):
    for scale in (quantities.scale_of(sum(sizes)), quantities.scale_of(other)):
        said = [scale.say(size) for size in sizes]
        total, digit = read(scale.say_sum(sizes))
        assert abs(sum(read(one)[0] for one in said) - total) <= digit / 2
        for size, one in zip(sizes, said, strict=True):
            shown, last = read(one)
            assert abs(shown - size) <= last / 2
            assert one.endswith(f" {scale.unit}") or size < 10 * scale.step


@given(st.integers(1, 10**17))
def test_a_sum_is_shown_with_four_digits(total):
    digits = [each for each in quantities.scale_of(total).say(total) if each.isdigit()]
    assert len(digits) >= 4 or total < 1_000
    assert len(digits) <= 5 or total >= 10**16


@pytest.mark.parametrize(
    ("total", "size", "said"),
    [
        (0, 0, "0 B"),
        (12, 12, "12 B"),
        (1_500, 700, "700 B"),
        (6_000_000, 3_000_000, "3,000 kB"),
        (17 * 10**9, 9 * 10**9, "9.00 GB"),
        (17 * 10**9, 4_000_000, "4.00 MB"),
        (17 * 10**9, 99_999_999, "100.0 MB"),
        (17 * 10**9, 100_000_000, "0.10 GB"),
        (1_240 * 10**9, 0, "0 GB"),
        (123_450 * 10**9, 123_450 * 10**9, "123.5 TB"),
    ],
)
def test_a_scale(total, size, said):
    assert quantities.scale_of(total).say(size) == said
