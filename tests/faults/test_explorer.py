"""A clear meets every trouble at every one of its steps, and every promise holds."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest
from django.db import connection

from cleanup.clears import nas_questions
from cleanup.ledger import book, verification
from cleanup.models import ClearAttempt, LedgerEntry
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs import proofs
from cleanup.storage.staging import own_storage
from tests.faults import explorer, means, meddling, mounts, report
from tests.faults.drifting import Drifting
from tests.faults.explorer import Explored
from tests.faults.means import Unavailable, skip_or_fail
from tests.faults.seam import Lost
from tests.faults.stage import Stage, staged
from tests.ledger.book_rows import key_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(tmp_path: Path, now: datetime) -> Iterator[Stage]:
    with staged(tmp_path / "stage", now) as stage:
        yield stage


def expect_none(explored: Explored, at_least: int) -> None:
    """No violation, and at least this many points: fewer mean that the seam misses operations."""
    report.explored(explored.kind, explored.points, len(explored.violations))
    assert not explored.violations, "\n".join(map(str, explored.violations[:20]))
    assert explored.points >= at_least


def test_a_clear_that_is_killed_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes(stage, every=2, skip=skip()), at_least=25)


def test_a_clear_whose_machine_loses_its_power_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes(stage, lost=Lost(), every=4, skip=skip()), at_least=12)


@pytest.mark.parametrize("record", ["sync_state", "both"])
def test_a_clear_by_another_record_that_is_killed_anywhere(tmp_path: Path, now: datetime, record: str) -> None:
    """Takes 2 s each: every fourth step."""
    with staged(tmp_path / record, now, record=record) as stage:
        expect_none(explorer.crashes(stage, every=4, skip=skip()), at_least=12)


def test_a_clear_by_another_record_whose_machine_loses_its_power(tmp_path: Path, now: datetime) -> None:
    """Takes 2 s: every fourth step."""
    with staged(tmp_path / "sync_state", now, record="sync_state") as stage:
        expect_none(explorer.crashes(stage, lost=Lost(), every=4, skip=skip()), at_least=12)


def test_a_clear_of_a_run_that_was_copied_back(tmp_path: Path, now: datetime) -> None:
    """Takes 5 s: every eighth step, killed and without power, and some changes."""
    with staged(tmp_path / "returned", now, returned=True) as stage:
        expect_none(explorer.crashes(stage, every=8, skip=skip()), at_least=6)
        expect_none(explorer.crashes(stage, lost=Lost(), every=8, skip=skip() + 4), at_least=6)
        expect_none(meddling.meddle(stage, every=6, exhaustive=False), at_least=5)


@contextlib.contextmanager
def accepted(base: Path, now: datetime) -> Iterator[Stage]:
    """A stage on two disks with accepted bytes and no manifests. Only root can mount it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(means.tiny_disk(base / "lab/nas", "64m"))
        except means.Unavailable as missing:
            means.skip_or_fail(missing)
        yield stack.enter_context(staged(base, now, accepted=True, allow_same_filesystem=False))


def test_a_clear_by_accepted_bytes(tmp_path: Path, now: datetime) -> None:
    """Takes 4 s: every eighth step, killed and without power, and some changes."""
    with accepted(tmp_path / "accepted", now) as stage:
        expect_none(explorer.crashes(stage, every=8, skip=skip()), at_least=6)
        expect_none(explorer.crashes(stage, lost=Lost(), every=8, skip=skip() + 4), at_least=6)
        expect_none(meddling.meddle(stage, every=6, exhaustive=False), at_least=5)


def skip() -> int:
    """Each engine takes every other step, so that both together take all."""
    return 0 if connection.vendor == "sqlite" else 1


def test_power_lost_in_the_first_clear_of_a_new_data_directory(tmp_path: Path, now: datetime) -> None:
    with staged(tmp_path / "new", now, new_data=True) as stage:
        expect_none(explorer.crashes(stage, lost=Lost(), since="_commit", every=5), at_least=5)


@pytest.mark.one_engine
def test_a_recovery_that_is_killed_as_well_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes_twice(stage, every=3, exhaustive=False), at_least=15)


def test_a_clear_whose_disk_or_database_fails_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.faults(stage, every=4, skip=skip(), exhaustive=False), at_least=12)


@pytest.mark.one_engine
def test_a_clear_that_stands_still_anywhere_is_left_alone(stage: Stage) -> None:
    expect_none(explorer.freezes(stage, every=4), at_least=12)


@pytest.mark.one_engine
def test_a_run_that_is_changed_meanwhile_is_left_as_it_was_changed(stage: Stage) -> None:
    """Every other step, one change at each."""
    expect_none(meddling.meddle(stage, every=2, exhaustive=False), at_least=20)


@contextlib.contextmanager
def on_subvolumes(base: Path, now: datetime) -> Iterator[Stage]:
    """Runs that are subvolumes, without the gate that refuses them: the record is written inside the fence."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(mounts.disk(base / "image", base / "disk", "btrfs", "128M"))
        except Unavailable as missing:
            skip_or_fail(missing)
        stack.enter_context(mock.patch.object(own_storage, "objection", return_value=None))
        yield stack.enter_context(staged(base / "disk/stage", now, make_folder=mounts.subvolume))


def test_a_committed_subvolume_is_always_cleared(tmp_path: Path, now: datetime) -> None:
    """Takes 3 s: every other step after the commit, on a real btrfs."""
    with on_subvolumes(tmp_path, now) as stage:
        expect_none(explorer.crashes(stage, since="_commit", every=2, skip=skip()), at_least=10)


@contextlib.contextmanager
def where_numbers_drift(base: Path, now: datetime) -> Iterator[Stage]:
    with (
        mock.patch.object(proofs, "keeps_inodes", return_value=False),
        staged(base / "drift", now, read_by=Drifting) as stage,
    ):
        yield stage


def doubting_once(attempt: ClearAttempt, *_: object) -> Finding | None:
    first = attempt not in _DOUBTED
    _DOUBTED.append(attempt)
    return Finding(Reason.NAS_IO_ERROR, "planted") if first else None


_DOUBTED: list[ClearAttempt] = []


def test_a_clear_whose_twin_has_other_numbers_each_time(tmp_path: Path, now: datetime) -> None:
    """Takes 3 s: every fourth step, where the run is fenced twice."""
    doubting = mock.patch.object(nas_questions, "compare_blocks", doubting_once)
    with where_numbers_drift(tmp_path, now) as stage, doubting:
        expect_none(explorer.crashes(stage, every=4, skip=skip()), at_least=12)


@pytest.mark.exhaustive
class TestExhaustive:
    """All that the tests above sample or leave out.

    In the longest searches each engine takes every other step, so that both together take all.
    """

    def test_killed(self, stage: Stage) -> None:
        expect_none(explorer.crashes(stage), at_least=50)

    @pytest.mark.parametrize("lost", [Lost(), Lost(names=False), Lost(data=False)], ids=["both", "data", "names"])
    def test_power_lost(self, stage: Stage, lost: Lost) -> None:
        expect_none(explorer.crashes(stage, lost=lost), at_least=50)

    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    @pytest.mark.parametrize("record", ["sync_state", "both"])
    def test_another_record(self, tmp_path: Path, now: datetime, record: str, lost: Lost | None) -> None:
        with staged(tmp_path / record, now, record=record) as stage:
            expect_none(explorer.crashes(stage, lost=lost), at_least=50)

    @pytest.mark.parametrize("lost", [None, Lost(), Lost(names=False)], ids=["killed", "power lost", "data lost"])
    def test_copied_back(self, tmp_path: Path, now: datetime, lost: Lost | None) -> None:
        with staged(tmp_path / "returned", now, returned=True) as stage:
            expect_none(explorer.crashes(stage, lost=lost, every=2, skip=skip()), at_least=25)

    @pytest.mark.timeout(600)
    def test_copied_back_and_meddled_with(self, tmp_path: Path, now: datetime) -> None:
        with staged(tmp_path / "returned", now, returned=True) as stage:
            expect_none(meddling.meddle(stage, every=3), at_least=80)

    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_accepted(self, tmp_path: Path, now: datetime, lost: Lost | None) -> None:
        with accepted(tmp_path / "accepted", now) as stage:
            expect_none(explorer.crashes(stage, lost=lost, every=2, skip=skip()), at_least=25)

    @pytest.mark.timeout(600)
    def test_accepted_and_meddled_with(self, tmp_path: Path, now: datetime) -> None:
        """Every sixth step: each change voids the acceptance, so it needs its own run."""
        with accepted(tmp_path / "accepted", now) as stage:
            expect_none(meddling.meddle(stage, every=6), at_least=40)

    @pytest.mark.timeout(600)
    def test_killed_twice(self, stage: Stage) -> None:
        expect_none(explorer.crashes_twice(stage, every=2, skip=skip()), at_least=250)

    @pytest.mark.timeout(600)
    def test_killed_and_power_lost(self, stage: Stage) -> None:
        expect_none(explorer.crashes_twice(stage, lost=Lost(), every=2, skip=skip()), at_least=250)

    @pytest.mark.timeout(600)
    def test_failed(self, stage: Stage) -> None:
        expect_none(explorer.faults(stage, every=2, skip=skip()), at_least=150)

    def test_frozen(self, stage: Stage) -> None:
        expect_none(explorer.freezes(stage), at_least=45)

    @pytest.mark.timeout(600)
    def test_meddled_with(self, stage: Stage) -> None:
        expect_none(meddling.meddle(stage, every=2, skip=skip()), at_least=125)

    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_refusing(self, stage: Stage, lost: Lost | None) -> None:
        expect_none(meddling.crashes_of_a_refusal(stage, lost=lost), at_least=15)

    @pytest.mark.timeout(600)
    def test_recovery_fails(self, stage: Stage) -> None:
        expect_none(explorer.failing_recoveries(stage, every=2, skip=skip()), at_least=200)

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_subvolumes(self, tmp_path: Path, now: datetime, lost: Lost | None) -> None:
        with on_subvolumes(tmp_path, now) as stage:
            expect_none(explorer.crashes(stage, lost=lost, every=2, skip=skip()), at_least=30)
            expect_none(explorer.crashes_twice(stage, lost=lost, since="_commit", every=3), at_least=60)

    def test_subvolumes_where_all_fails(self, tmp_path: Path, now: datetime) -> None:
        with on_subvolumes(tmp_path, now) as stage:
            expect_none(explorer.faults(stage, every=2, skip=skip()), at_least=100)

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_other_numbers_each_time(self, tmp_path: Path, now: datetime, lost: Lost | None) -> None:
        with where_numbers_drift(tmp_path, now) as stage:
            expect_none(explorer.crashes(stage, lost=lost, every=2, skip=skip()), at_least=25)
            with mock.patch.object(nas_questions, "compare_blocks", doubting_once):
                expect_none(explorer.crashes(stage, lost=lost, every=2, skip=skip()), at_least=30)
                expect_none(explorer.faults(stage, every=2, skip=skip(), exhaustive=False), at_least=25)

    @pytest.mark.skipif("postgresql" not in connection.vendor, reason="SQLite has one host and ends no session")
    def test_frozen_with_the_head(self, stage: Stage, now: datetime, subprocess_env: dict[str, str]) -> None:
        """Takes 70 s: a worker is stopped twice until PostgreSQL ends its session."""
        env = {**subprocess_env, "EXLAB_DATA_DIR": str(stage.data)}
        explored, waited = explorer.freezes_at_the_head(stage, env, lambda: book.write(key_row(now)))
        expect_none(explored, at_least=2)
        assert all(10 < seconds < 42 for seconds in waited), waited
        assert (verification.verify().bad, LedgerEntry.objects.filter(kind="key").count()) == (None, 2)

    def test_frozen_and_locks_swept(self, stage: Stage) -> None:
        expect_none(explorer.freezes(stage, swept=True), at_least=45)
