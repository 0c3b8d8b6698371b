"""A full comparison on request, and the bytes that an admin may accept.

The NAS is a separate disk, which only root can mount: on one disk no bytes are accepted.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from cleanup import clear_run, tasks
from cleanup.clears import preparation, protocol
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.lab.roots.registration import register
from cleanup.models import AcceptedBytes, ByteCheck, ClearAttempt, LedgerEntry, Proof, Requester, Run, StagingRoot
from cleanup.rules.decisions import Gate
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import inspection, stored_facts
from cleanup.runs.proofs import accepted_bytes, differences, verify_again
from cleanup.runs.proofs.verify_again import NotAccepted
from cleanup.storage.staging import fences, removal
from cleanup.sweeps import all_roots
from tests.clears.test_renumbered import drifting
from tests.faults import means, mounts
from tests.faults.means import before, change_keeping_size_and_time, failing, replaced
from tests.tools.lab import METADATA, RUN_PATH, Lab, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

TILE, MANIFEST = "tiles/t_0001.tif", f"{METADATA}/checksums.sha256"
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Place:
    lab: Lab
    root: StagingRoot
    now: datetime
    path: Path
    twin: Path

    @property
    def run(self) -> Run:
        return Run.objects.with_root().get()

    def look(self) -> Run:
        discovery.discover(self.root, now=self.now)
        return self.run

    def verify(self, actor: str = "ben") -> ByteCheck:
        check = verify_again.request(self.run, actor=actor, now=timezone.now())
        tasks.verify_again(str(check.pk))
        return ByteCheck.objects.get(pk=check.pk)

    def accept(self) -> AcceptedBytes:
        taken = verify_again.accept(self.verify(), actor="ada", note="repaired by hand", now=timezone.now())
        self.look()
        return taken

    def clear(self, actor: str = "ben") -> ClearAttempt:
        return protocol.attempt_now(
            self.run, ClearRequest(requester=Requester.OPERATOR, actor=actor), now=self.now + timedelta(hours=1)
        )

    def both(self, change: Callable[[Path], Any]) -> None:
        for side in (self.path, self.twin):
            change(side)


@pytest.fixture
def place(lab: Lab, now: datetime, enter: mounts.Enter) -> Place:
    enter(means.mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", lab.nas))
    path = lab.run()
    root = register("lab", str(lab.staging), nas_path=str(lab.nas), now=now)
    made = Place(lab, root, now, path, lab.twin())
    made.look()
    return made


def rewrite(side: Path) -> None:
    file = side / TILE
    times = file.stat().st_mtime_ns
    file.write_bytes(b"x" * file.stat().st_size)
    os.utime(file, ns=(times, times))


def take_tokens(nas: Path) -> None:
    for token in [path for path in nas.iterdir() if path.name.startswith(".exlab")]:
        token.rename(token.with_name(f"aside-{token.name}"))


def without_manifest(place: Place) -> None:
    (place.path / MANIFEST).unlink()
    place.look()


def cases(check: ByteCheck) -> dict[str, str]:
    return {each["path"]: each["case"] for each in check.named}


# Results


def test_what_is_as_the_manifest_says_is_told_so_and_nothing_is_touched(place: Place) -> None:
    before = snapshot(place.lab.base)
    check = place.verify()
    assert (check.phase, check.outcome, check.reason) == ("done", "as_manifest", "")
    assert (check.files, check.differing, check.against, check.named) == (7, 0, 0, [])
    assert check.planned_bytes == 2 * check.bytes > 0
    assert snapshot(place.lab.base) == before
    assert not LedgerEntry.objects.exists()


@pytest.mark.parametrize(
    ("damage", "case"),
    [
        (lambda place: rewrite(place.twin), "nas_differs"),
        (lambda place: rewrite(place.path), "staging_differs"),
        (lambda place: (rewrite(place.path), (place.twin / TILE).write_bytes(b"y" * 4096)), "both_differ"),
        (lambda place: (place.twin / TILE).unlink(), "not_on_nas"),
        (lambda place: (place.twin / TILE).write_bytes(b"short"), "nas_differs"),
    ],
    ids=["the NAS", "staging", "both", "missing", "another size"],
)
def test_files_that_differ_are_named_with_the_side_that_is_right(
    place: Place, damage: Callable[[Place], Any], case: str
) -> None:
    damage(place)
    check = place.verify()
    assert (check.outcome, check.differing, cases(check)) == ("different", 1, {TILE: case})
    with pytest.raises(NotAccepted, match="does not show the same bytes"):
        verify_again.accept(check, actor="ada", note="it is fine", now=place.now)
    assert not AcceptedBytes.objects.exists()


@pytest.mark.parametrize("level", ["checksum", "size", "record"])
def test_what_it_finds_keeps_earlier_proofs_and_mere_sizes_from_counting(
    place: Place, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """The run was proven, and its twin has rotted since without a trace: the run must stay."""
    # As a full data directory refuses a plan: the proof is written down with the refusal.
    with replaced(monkeypatch, preparation, "keep_plan", failing(OSError(errno.ENOSPC, "planted"))):
        place.clear()
    assert Proof.objects.get().evidence
    rewrite(place.twin)
    assert place.verify().outcome == "different"
    policy(proof=level)
    attempt = place.clear()
    assert (attempt.phase, attempt.reason) == ("refused", Reason.NAS_CHECKSUM_MISMATCH)
    assert place.path.is_dir()


def test_what_is_more_on_the_nas_is_not_read(place: Place, enter: mounts.Enter) -> None:
    more = place.twin / "more"
    more.mkdir()
    (place.twin / "movie.avi").write_bytes(bytes(1 << 20))
    enter(means.mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", more))
    check = place.verify()
    assert (check.outcome, check.reason, check.detail) == ("as_manifest", "", "")
    assert check.planned_bytes == 2 * check.bytes


def test_what_is_the_same_on_both_sides_and_not_as_the_manifest_says(place: Place) -> None:
    place.both(rewrite)
    place.both(lambda side: (side / "notes.txt").write_bytes(b"late"))
    place.both(lambda side: (side / "README.md").unlink())
    (place.path / "tiles/t_0002.tif").rename(place.lab.base / "only on the NAS")
    check = place.verify()
    assert (check.outcome, check.against, check.missing) == ("alike", 2, 2)
    assert cases(check) == {
        TILE: "changed",
        "notes.txt": "added",
        "README.md": "nowhere",
        "tiles/t_0002.tif": "only_on_nas",
    }


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda file: file.unlink(), Reason.MANIFEST_MISSING),
        (lambda file: file.write_bytes(b""), Reason.MANIFEST_EMPTY),
        (lambda file: file.write_bytes(b"nothing that is a checksum\n"), Reason.MANIFEST_UNREADABLE),
    ],
)
def test_without_a_usable_manifest_both_sides_are_compared_with_each_other(
    place: Place, break_it: Callable[[Path], Any], reason: Reason
) -> None:
    break_it(place.path / MANIFEST)
    check = place.verify()
    assert (check.outcome, check.manifest) == ("alike", reason)
    assert check.named == [] or reason == Reason.MANIFEST_EMPTY
    assert differences.was_found(place.run) is bool(check.named)
    place.look()
    verify_again.accept(check, actor="ada", note="compared by hand", now=place.now)
    place.look()
    assert place.clear().phase == "done"
    assert LedgerEntry.objects.get(kind="completed").proof_level == "accepted"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda place: take_tokens(place.lab.nas), Reason.NAS_NOT_MOUNTED),
        (lambda place: (place.path / "link").symlink_to("README.md"), Reason.UNSAFE_PATH),
        (lambda place: place.path.rename(place.lab.base / "away"), Reason.MISSING_DIRECTORY),
    ],
    ids=["no token on the NAS", "a link", "gone"],
)
def test_what_cannot_be_compared_says_why(place: Place, fault: Callable[[Place], Any], reason: Reason) -> None:
    fault(place)
    check = place.verify()
    assert (check.outcome, check.reason) == ("not_compared", reason)


def test_what_is_written_meanwhile_was_not_compared(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleanup.storage import hashing

    with before(monkeypatch, hashing, "hash_batch", lambda: (place.path / "new.txt").write_bytes(b"new")):
        check = place.verify()
    assert (check.outcome, check.reason) == ("not_compared", Reason.CHANGED_SINCE_VERIFICATION)


# One at a time, and none for ever


def test_asked_for_twice_it_is_done_once(place: Place) -> None:
    first = verify_again.request(place.run, actor="ben", now=place.now)
    assert verify_again.request(place.run, actor="eve", now=place.now) == first
    assert OrmQ.objects.count() == 1
    tasks.verify_again(str(first.pk))
    done = ByteCheck.objects.get()
    tasks.verify_again(str(first.pk))  # a task may be delivered twice
    assert ByteCheck.objects.get().phase_at == done.phase_at


@pytest.mark.parametrize("phase", ["queued", "running"])
def test_one_whose_worker_is_gone_ends(place: Place, phase: str) -> None:
    check = verify_again.request(place.run, actor="ben", now=place.now)
    ByteCheck.objects.update(phase=phase, phase_at=place.now)
    later = place.now + 3 * MINUTE
    assert verify_again.settle_lost(host=check.host, now=place.now + MINUTE) == 0
    assert verify_again.settle_lost(host=check.host, now=later) == (0 if phase == "queued" else 1)
    OrmQ.objects.all().delete()
    verify_again.settle_lost(host=check.host, now=later)
    check.refresh_from_db()
    assert (check.phase, check.reason) == ("done", Reason.INTERRUPTED)
    assert verify_again.active(place.run) is None


# What an admin may accept


@pytest.mark.both_engines
def test_accepted_bytes_clear_by_a_person_with_a_proof_of_their_own(place: Place) -> None:
    place.both(rewrite)
    assert place.clear().reason == Reason.NAS_CHECKSUM_MISMATCH
    taken = place.accept()
    run = place.run
    assert run.tone == 1 and not run.reason  # safe to clear, despite the last attempt
    files, size = tree_count(place.path)
    attempt = place.clear()
    assert (attempt.phase, attempt.reason, attempt.freed_files) == ("done", "", files)
    assert attempt.freed_bytes == size and not place.path.exists()
    proof = Proof.objects.get(accepted=taken)
    assert (attempt.proof, proof.kind, proof.level, proof.evidence) == (proof, "accepted", "checksum", "")
    rows = LedgerEntry.objects.order_by("pk").values_list("kind", "actor", "proof_level")
    assert list(rows) == [
        ("refused", "ben", ""),
        ("accepted", "ada", ""),
        ("authorised", "ben", "accepted"),
        ("completed", "ben", "accepted"),
    ]
    assert "repaired by hand" in LedgerEntry.objects.get(kind="accepted").detail
    story = opening.data_dir().read_story(attempt.pk.hex)
    assert story["proof"] == "accepted"
    kept = opening.data_dir().read_digests(attempt.pk.hex)[TILE.encode()]
    assert kept == hashlib.sha256(b"x" * 4096).digest()  # and not what the manifest says


def tree_count(path: Path) -> tuple[int, int]:
    files = [entry for entry in path.rglob("*") if entry.is_file()]
    return len(files), sum(entry.stat().st_size for entry in files)


def test_the_schedule_never_takes_them(place: Place, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0, stage="off")
    without_manifest(place)
    place.accept()
    for limits in ({}, {"limit": 5}):
        (action,) = all_roots.sweep(now=place.now, roots=[place.root], **limits).runs
        assert (action.action, action.reason) == ("skipped", Reason.ACCEPTED_BYTES)
    decision = inspection.quick_decision(place.run, Policy(), place.now)
    assert (decision.clearable, decision.due) == (True, False)
    with pytest.raises(Refused, match="accepted_bytes"):
        clear_run(place.run, now=place.now)  # as a program calls it, by no person's name
    assert place.path.exists()


@pytest.mark.parametrize(
    "level", ["record", *(pytest.param(level, marks=pytest.mark.exhaustive) for level in ("size", "checksum"))]
)
def test_every_byte_is_read_under_any_policy(place: Place, policy: Callable[..., Any], level: str) -> None:
    policy(proof=level)
    without_manifest(place)
    place.accept()
    change_keeping_size_and_time(place.twin / TILE)
    attempt = place.clear()
    assert (attempt.phase, place.path.exists()) == ("refused", True)


def test_a_nas_that_gives_new_inode_numbers_does_not_make_it_void(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sshfs does at each question; its bytes are read once more in any case."""
    without_manifest(place)
    with drifting(monkeypatch):
        place.accept()
        attempt = place.clear()
    assert (attempt.phase, attempt.reason) == ("done", "")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda place: os.utime(place.path / TILE), id="time", marks=pytest.mark.exhaustive),
        pytest.param(lambda place: (place.path / TILE).chmod(0o600), id="mode", marks=pytest.mark.exhaustive),
        pytest.param(lambda place: os.utime(place.twin / TILE), id="time on the NAS"),
        pytest.param(lambda place: (place.path / "more.txt").write_bytes(b""), id="one file more"),
        pytest.param(
            lambda place: (place.twin / TILE).rename(place.twin / "aside"),
            id="gone on the NAS",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(lambda place: (place.path / MANIFEST).write_bytes(b"0" * 64 + b"  README.md\n"), id="a manifest"),
    ],
)
def test_any_change_makes_it_void(place: Place, change: Callable[[Place], Any]) -> None:
    without_manifest(place)
    place.accept()
    change(place)
    run = place.look()
    facts = stored_facts.facts_of(run)
    assert facts.accepted is not None and not facts.accepted.holds
    assert place.clear().phase == "refused"
    assert place.path.exists()


def test_bytes_that_changed_without_a_trace_are_others(place: Place) -> None:
    without_manifest(place)
    taken = place.accept()
    AcceptedBytes.objects.filter(pk=taken.pk).update(digest="0" * 64)
    attempt = place.clear()
    assert (attempt.phase, attempt.reason) == ("refused", Reason.ACCEPTANCE_VOID)
    assert place.path.exists()


def test_a_void_one_hides_nothing_that_only_staging_holds(place: Place, policy: Callable[..., Any]) -> None:
    """Record trusted, NAS away: an empty folder keeps a run with an acceptance, too."""
    policy(proof="record", only_here="block", stage="off")
    (place.path / "empty").mkdir()
    listed = (place.path / MANIFEST).read_bytes()
    without_manifest(place)
    place.accept()
    (place.path / MANIFEST).write_bytes(listed)
    place.look()
    assert place.verify().outcome == "as_manifest"
    assert accepted_bytes.standing(place.run) is not None
    take_tokens(place.lab.nas)
    attempt = place.clear()
    assert (attempt.phase, attempt.reason) == ("refused", Reason.ONLY_HERE)


def test_other_gates_stay_as_they_are(place: Place) -> None:
    without_manifest(place)
    place.accept()
    (place.path / ".exlab-hold").write_text("mine")
    assert place.clear().reason == Reason.HELD


def test_on_one_disk_nothing_is_accepted(place: Place) -> None:
    without_manifest(place)
    check = place.verify()
    StagingRoot.objects.update(allow_same_filesystem=True)
    with pytest.raises(NotAccepted, match="On one disk"):
        verify_again.accept(check, actor="ada", note="a trial", now=place.now)
    StagingRoot.objects.update(allow_same_filesystem=False)
    verify_again.accept(check, actor="ada", note="two disks", now=place.now)
    StagingRoot.objects.update(allow_same_filesystem=True)  # given later, it makes it void
    run = place.look()
    assert stored_facts.decision(run, [], place.now).gate(Gate.UNCHANGED).reason is Reason.MANIFEST_MISSING
    assert place.clear().reason == Reason.MANIFEST_MISSING


@pytest.mark.parametrize("note", ["", "  "])
def test_without_a_reason_nothing_is_accepted(place: Place, note: str) -> None:
    without_manifest(place)
    with pytest.raises(ValueError, match="reason"):
        verify_again.accept(place.verify(), actor="ada", note=note, now=place.now)


def test_while_the_nas_cannot_be_read_nothing_is_accepted(place: Place) -> None:
    without_manifest(place)
    check = place.verify()
    place.twin.rename(place.twin.with_name("elsewhere"))
    with pytest.raises(NotAccepted, match="The NAS does not hold all files"):
        verify_again.accept(check, actor="ada", note="sure", now=place.now)
    assert not AcceptedBytes.objects.exists()


def test_what_changed_since_it_was_compared_is_not_accepted(place: Place) -> None:
    without_manifest(place)
    check = place.verify()
    os.utime(place.path / TILE, (1, 1))
    with pytest.raises(NotAccepted, match="Something has changed"):
        verify_again.accept(check, actor="ada", note="sure", now=place.now)


def test_accepted_twice_it_is_accepted_once(place: Place) -> None:
    without_manifest(place)
    check = place.verify()
    verify_again.accept(check, actor="ada", note="sure", now=place.now)
    with pytest.raises(NotAccepted, match="accepted already"):
        verify_again.accept(check, actor="eve", note="me too", now=place.now)
    assert LedgerEntry.objects.filter(kind="accepted").count() == 1
    newer = place.verify()
    verify_again.accept(newer, actor="eve", note="once more", now=place.now)
    assert AcceptedBytes.objects.standing().get().actor == "eve"


@pytest.mark.both_engines
def test_withdrawn_it_counts_no_more_even_amid_a_clear(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    without_manifest(place)
    place.accept()
    run = place.run

    def withdraw() -> None:
        verify_again.withdraw(run, actor="ada", note="a mistake", now=place.now)

    with before(monkeypatch, protocol, "_commit", withdraw):
        attempt = place.clear()
    assert (attempt.phase, attempt.reason) == ("refused", Reason.ACCEPTANCE_VOID)
    assert place.path.exists() and accepted_bytes.standing(run) is None
    with pytest.raises(NotAccepted):
        withdraw()
    refusal = inspection.quick_decision(run, Policy(), place.now).main_refusal(operator=True)
    assert refusal is not None and refusal.reason is Reason.MANIFEST_MISSING


def test_what_changes_between_the_comparison_and_the_fence_stops_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_manifest(place)
    place.accept()
    with before(monkeypatch, fences, "fence", lambda: (place.path / TILE).write_bytes(b"x" * 4096)):
        attempt = place.clear()
    assert attempt.phase == "refused" and (place.path / TILE).read_bytes() == b"x" * 4096


def test_a_clear_that_died_after_the_commit_is_completed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleanup.clears import recovery

    without_manifest(place)
    place.accept()
    with (
        replaced(monkeypatch, removal, "remove", failing(KeyboardInterrupt())),
        pytest.raises(KeyboardInterrupt),
    ):
        place.clear()
    recovery.recover(now=place.now + timedelta(hours=2))
    assert not place.path.exists()
    assert LedgerEntry.objects.get(kind="completed").proof_level == "accepted"
    assert place.run.run_path == RUN_PATH
