"""Clean nights and surprises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.facts import Facts, Finding, Held, ProofFacts
from cleanup.rules.policies.policy import DEFAULT_REHEARSAL_NIGHTS, ProofLevel
from cleanup.rules.policies.rehearsal import clean_nights, nights_wanted, ready, surprise_in
from cleanup.rules.reasons import Reason

pytestmark = pytest.mark.one_engine(by="function")


SINCE = datetime(2026, 6, 1, 15, 30, tzinfo=UTC)
HOUR, NIGHT, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
SAID_AT = datetime(2026, 6, 10, 2, 0, tzinfo=UTC)
NOW = SAID_AT + timedelta(hours=6)


def hourly(days, since=SINCE):
    return [since + hours * HOUR for hours in range(int(days * 24))]


class TestCleanNights:
    def test_a_night_counts_when_it_is_over_and_not_before(self):
        assert clean_nights(SINCE, hourly(1), SINCE + NIGHT - SECOND) == 0
        assert clean_nights(SINCE, hourly(1), SINCE + NIGHT) == 1

    def test_three_nights_of_hourly_passes(self):
        assert clean_nights(SINCE, hourly(3), SINCE + 3 * NIGHT) == 3

    def test_a_night_without_a_pass_has_shown_nothing(self):
        passes = [SINCE + HOUR, SINCE + 2 * NIGHT + HOUR]
        assert clean_nights(SINCE, passes, SINCE + 3 * NIGHT) == 2
        assert clean_nights(SINCE, [], SINCE + 300 * NIGHT) == 0

    def test_many_passes_are_not_many_nights(self):
        assert clean_nights(SINCE, [SINCE + n * SECOND for n in range(1000)], SINCE + 5 * NIGHT) == 1

    def test_passes_before_it_began_count_for_nothing(self):
        assert clean_nights(SINCE, hourly(3, SINCE - 3 * NIGHT), SINCE + 3 * NIGHT) == 0

    def test_a_clock_that_was_set_back_makes_no_nights(self):
        assert clean_nights(SINCE, hourly(3), SINCE - NIGHT) == 0
        assert clean_nights(SINCE, [SINCE + 100 * NIGHT], SINCE + 3 * NIGHT) == 0

    def test_a_surprise_begins_the_count_anew(self):
        surprised = SINCE + 2 * NIGHT + 5 * HOUR
        assert clean_nights(surprised, hourly(4), SINCE + 4 * NIGHT) == 1

    @given(st.lists(st.integers(-100, 500)), st.integers(-50, 500), st.integers(0, 100))
    def test_no_more_than_have_passed_and_never_fewer_later(self, hours, now, more):
        passes = [SINCE + hour * HOUR for hour in hours]
        nights = clean_nights(SINCE, passes, SINCE + now * HOUR)
        assert 0 <= nights <= max(0, now // 24)
        assert clean_nights(SINCE, passes, SINCE + (now + more) * HOUR) >= nights


class TestReady:
    @pytest.mark.parametrize("wanted", [1, 2, 5, 365])
    def test_after_as_many_nights_as_the_version_says(self, wanted):
        assert not ready(wanted, wanted - 1)
        assert ready(wanted, wanted)

    def test_after_the_usual_nights_where_it_says_nothing(self):
        assert nights_wanted(None) == DEFAULT_REHEARSAL_NIGHTS == 3
        assert not ready(None, 2)
        assert ready(None, 3)

    def test_none_means_by_a_person_only(self):
        assert not ready(0, 0)
        assert not ready(0, 365)


def seen(*, proof=(), **fields):
    compared = ProofFacts(level=ProofLevel.SIZE, findings=tuple(proof), files=3, bytes=10)
    return Facts(gathered_at=NOW - HOUR, newest_data_at=SAID_AT - 30 * NIGHT, proof=compared, **fields)


HOLD = Held(owner="ada", until=NOW + NIGHT, reason="needed on Monday")


class TestSurprise:
    def test_a_run_that_is_as_it_was_is_none(self):
        assert surprise_in(seen(), SAID_AT, NOW) is None

    def test_a_hold_of_a_person(self):
        assert surprise_in(seen(holds=(HOLD,)), SAID_AT, NOW) == Finding(Reason.HELD, "by ada: needed on Monday")

    def test_a_hold_counts_however_old_the_look_is(self):
        old = replace(seen(holds=(HOLD,)), gathered_at=SAID_AT - NIGHT)
        assert surprise_in(old, SAID_AT, NOW).reason is Reason.HELD

    def test_a_hold_that_is_over_is_none(self):
        over = replace(HOLD, until=NOW)
        assert surprise_in(seen(holds=(over,)), SAID_AT, NOW) is None

    def test_a_hold_of_a_file(self):
        assert surprise_in(seen(hold_file=""), SAID_AT, NOW).reason is Reason.HELD

    @pytest.mark.parametrize(
        "reason", [Reason.NOT_IN_MANIFEST, Reason.MISSING_FILE, Reason.WRITER_ACTIVE, Reason.CHANGED_SINCE_VERIFICATION]
    )
    def test_a_run_that_changed(self, reason):
        findings = (Finding(Reason.UNEXPECTED_METADATA), Finding(reason, "notes.txt"))
        assert surprise_in(seen(tree_findings=findings), SAID_AT, NOW) == Finding(reason, "notes.txt")

    @pytest.mark.parametrize(
        "reason", [Reason.NAS_MISSING_FILE, Reason.NAS_SIZE_MISMATCH, Reason.NAS_CHECKSUM_MISMATCH]
    )
    def test_a_run_that_lost_its_twin(self, reason):
        assert surprise_in(seen(proof=[Finding(reason, "a.tif")]), SAID_AT, NOW) == Finding(reason, "a.tif")

    @pytest.mark.parametrize(
        "reason",
        [
            Reason.NAS_NOT_MOUNTED,
            Reason.NAS_TIMEOUT,
            Reason.NAS_IO_ERROR,
            Reason.NAS_IDENTITY_MISMATCH,
            Reason.NAS_NOT_CONFIGURED,
            Reason.NAS_SAME_FILESYSTEM,
            Reason.NOT_COMPARED,
        ],
    )
    def test_a_nas_that_does_not_answer_says_nothing_of_the_run(self, reason):
        assert surprise_in(seen(proof=[Finding(reason)]), SAID_AT, NOW) is None

    def test_data_written_after_the_rehearsal(self):
        written = replace(seen(newer_count=1), newest_data_at=SAID_AT + HOUR)
        assert surprise_in(written, SAID_AT, NOW).reason is Reason.CHANGED_SINCE_VERIFICATION
        just_now = replace(written, newest_data_at=NOW - timedelta(minutes=9))
        assert surprise_in(just_now, SAID_AT, NOW).reason is Reason.NOT_QUIET

    def test_data_that_was_touched_before_the_rehearsal_is_none(self):
        touched = replace(seen(newer_count=1, newer_files=("a.tif",)), newest_data_at=SAID_AT)
        assert surprise_in(touched, SAID_AT, NOW) is None

    def test_a_look_older_than_the_rehearsal_says_nothing(self):
        found = seen(tree_findings=(Finding(Reason.NOT_IN_MANIFEST),), proof=[Finding(Reason.NAS_MISSING_FILE)])
        assert surprise_in(replace(found, gathered_at=SAID_AT), SAID_AT, NOW) is None
        assert surprise_in(replace(found, gathered_at=SAID_AT + SECOND), SAID_AT, NOW) is not None

    def test_a_run_that_was_never_compared_is_none(self):
        assert surprise_in(Facts(gathered_at=NOW), SAID_AT, NOW) is None
