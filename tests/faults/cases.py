"""The fault matrix: a case is one real fault, the outcome of a clear, and all that must stay unchanged.

Each test module hands its table of cases to `matrix`, which makes the tests and enters the table in REGISTRY.
So every declared reason is also asserted.
"""

import hashlib
import html
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from cleanup.clears import clear_now, recovery, settlement
from cleanup.clears.report import ClearReport
from cleanup.management.base import sweep_as_text
from cleanup.models import (
    ClearAttempt,
    IngestEvent,
    LedgerEntry,
    Proof,
    Requester,
    RetentionPolicy,
    Run,
    StagingRoot,
)
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.sweeps import all_roots
from tests.faults.means import Unavailable, reading_here, skip_or_fail
from tests.faults.scene import Scene, scene_of
from tests.tools.lab import METADATA, RUN_PATH, Lab

SIBLING = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
ELSEWHERE = "FLOW_01/PROJ-0060/Runs/Run_2026-04-19T10-00"
TILE = "tiles/t_0001.tif"
RECORD = f"{METADATA}/ingest.json"
MANIFEST = f"{METADATA}/checksums.sha256"
OTHER_TOKEN = "11111111-2222-3333-4444-555555555555\n"

# The verification of a run that was built as usual.
VERIFIED_AT = datetime.fromisoformat("2026-04-17T16:15:43Z")
_LARGE = 8 << 20  # larger files are compared by size and times, to save two reads
_OURS = re.compile(rb"\.exlab-clearing-[0-9a-f]{32}")
_PREPARED = re.compile(_OURS.pattern + rb"\.ingest\.json$")

# Where the times stand in what `survey` notes of an entry.
_MTIME, _CTIME = 6, 7

World = dict[bytes, tuple[Any, ...]]


@dataclass
class Stage:
    scene: Scene
    outside: Path
    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch
    env: dict[str, str] = field(default_factory=dict)
    noted: tuple[World, World, dict[str, Any]] | None = None

    @property
    def lab(self) -> Lab:
        return self.scene.lab

    @property
    def root(self) -> Any:
        return self.scene.root

    @property
    def now(self) -> datetime:
        return self.scene.now

    @property
    def run(self) -> Run:
        return Run.objects.with_root().get(pk=self.scene.run.pk)

    @property
    def path(self) -> Path:
        return self.scene.path

    @property
    def twin(self) -> Path:
        return self.scene.twin

    @property
    def parent(self) -> Path:
        return self.scene.path.parent

    @property
    def fence(self) -> Path:
        (fence,) = (path for path in self.parent.iterdir() if _OURS.fullmatch(os.fsencode(path.name)))
        return fence

    @property
    def data(self) -> Path:
        return Path(settings.EXLAB_DATA_DIR)

    def note(self) -> None:
        self.noted = *self.disk(), rows(self.scene.run.pk)

    def note_the_disk(self) -> None:
        assert self.noted is not None
        self.noted = *self.disk(), self.noted[2]

    def changes(self, *, fenced: bool = False, without_the_run: bool = False) -> list[str]:
        """The differences from what was noted: bytes, times, inodes and modes.

        A run that was fenced and put back has other change times, and its parent other times.
        `without_the_run` leaves out the run, its rows, and change times outside, where a file may have lost a
        name.
        """
        assert self.noted is not None
        pairs = list(zip(self.noted, (*self.disk(), rows(self.scene.run.pk)), strict=True))
        run = os.fsencode(self.path.relative_to(self.lab.base))
        times = _MTIME, _CTIME
        ignored = {run: (_CTIME,), os.path.dirname(run): times} if fenced or without_the_run else {}
        if without_the_run:  # where the reserve may have been laid again
            ignored[os.fsencode(self.lab.staging.relative_to(self.lab.base))] = times
        words = []
        for number, (before, now) in enumerate(pairs[:2]):
            for name in sorted(before.keys() | now.keys()):
                if without_the_run and (name == run or name.startswith(run + b"/")):
                    continue
                hidden = (_CTIME,) if number and without_the_run else ignored.get(name, ())
                if _without(before.get(name), hidden) != _without(now.get(name), hidden):
                    words.append(f"{os.fsdecode(name)}: {before.get(name)} -> {now.get(name)}")
        rows_before, rows_now = pairs[2]
        if without_the_run:
            own = self.scene.run.pk
            rows_before, rows_now = _of_others(rows_before, own), _of_others(rows_now, own)
        words += [f"{table} has changed" for table in rows_before if rows_before[table] != rows_now[table]]
        return words

    def assert_unchanged(self, **which: bool) -> None:
        changes = self.changes(**which)
        assert not changes, "\n".join(changes)

    def disk(self) -> tuple[World, World]:
        leaf = os.fsencode(self.scene.run.leaf)
        lab = {
            _OURS.sub(leaf, name): seen for name, seen in survey(self.lab.base).items() if not _PREPARED.search(name)
        }
        return lab, survey(self.outside)


@dataclass(frozen=True)
class Answer:
    action: str
    reason: str
    said: str
    shown: str = ""


def click(stage: Stage) -> Answer:
    swept = clear_now.clear([stage.run], now=stage.now, actor="ada")
    return _answer(stage, swept)


def timed(stage: Stage) -> Answer:
    return _answer(stage, all_roots.sweep(now=stage.now))


def _answer(stage: Stage, swept: ClearReport) -> Answer:
    found = [action for action in swept.runs if action.run_path == stage.scene.run.run_path]
    assert len(found) == 1, swept
    return Answer(str(found[0].action), found[0].reason, sweep_as_text(swept), page(stage))


def discover(stage: Stage) -> discovery.Discovered:
    found = discovery.discover(stage.root, now=stage.now)
    assert found is not None
    return found


def page(stage: Stage) -> str:
    from django.contrib.auth.models import User

    client = Client()
    client.force_login(User.objects.get_or_create(username="viewer", is_superuser=True)[0])
    answer = client.get(f"/runs/{stage.scene.run.pk}/")
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def refused(stage: Stage) -> None:
    stage.assert_unchanged()
    _assert_refused(stage)


def put_back(stage: Stage) -> None:
    stage.assert_unchanged(fenced=True)
    _assert_refused(stage)


def _assert_refused(stage: Stage) -> None:
    scene = stage.scene
    if stage.parent.is_dir():
        assert scene.leftovers() == []
    run = stage.run
    has_history = run.state and run.record_format == "ingest"
    assert (run.cleared_at, scene.states()[-1:]) == (None, [run.state] if has_history else [])
    assert set(scene.kinds()) <= {"refused"}
    # What fails before any gate was asked is the host's fault, not the run's.
    failed = [attempt for attempt in run.attempts.filter(reason__in=settlement.FAILURES) if attempt.decision]
    assert run.failures == len(failed)
    assert [attempt.phase for attempt in run.attempts.all()] == ["refused"] * len(scene.kinds())
    assert left_in_data_directory(stage) == []
    disk = stage.disk()
    recovery.recover(now=stage.now + timedelta(hours=1))
    assert stage.disk() == disk


def left_in_data_directory(stage: Stage) -> list[Path]:
    return [path for attempt in stage.run.attempts.all() for path in stage.data.glob(f"*/{attempt.pk.hex}*")]


def cleared(stage: Stage) -> None:
    stage.scene.assert_cleared()
    stage.assert_unchanged(without_the_run=True)


@dataclass(frozen=True)
class Case:
    """One fault. `make` makes it after discovery and may return a context that lasts for the clear.

    `built` are arguments of `lab.run`; `spoil` changes the run before discovery. `act` asks for the clear; by
    default both the operator and the schedule do. `then` checks what is left.
    """

    reason: Reason | None
    make: Callable[[Stage], Any] = lambda stage: None
    action: str = ""
    then: Callable[[Stage], None] | None = None
    level: str = "checksum"
    built: Mapping[str, Any] = field(default_factory=dict)
    spoil: Callable[[Path], Any] = lambda run: None
    act: Callable[[Stage], Answer] | None = None
    alone: bool = False  # with real transactions, because other processes take part
    swept: bool = False  # the schedule's pass is worth its time in the plain run too
    by_hand: bool = False  # the schedule never gets so far
    scheduled: Reason | None = None  # what the schedule's first look finds, where that is something else


def clears(make: Callable[[Stage], Any] = lambda stage: None, **more: Any) -> Case:
    return Case(None, make, "cleared", cleared, **more)


def puts_back(reason: Reason, make: Callable[[Stage], Any], **more: Any) -> Case:
    return Case(reason, make, then=put_back, **more)


REGISTRY: dict[str, dict[str, Case]] = {}


# The cases that the plain run leaves out, by group: similar to others, or slow.
RARE: dict[str, Collection[str]] = {}


def matrix(
    group: str, cases: dict[str, Case], *, rare: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the tests of a group, one for each case and asker, and enter them in the registry.

    The plain run leaves out the `rare` cases, and the schedule's pass unless a case is `swept`.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        assert group not in REGISTRY
        assert set(rare) <= set(cases), set(rare) - set(cases)
        REGISTRY[group], RARE[group] = cases, rare
        parameters = [
            pytest.param(
                case,
                asker,
                id=f"{name}, {asker}" if case.act is None else name,
                marks=_marks(case, asker, name in rare),
            )
            for name, case in cases.items()
            for asker in _askers(case)
        ]
        return pytest.mark.parametrize(("case", "asker"), parameters)(test)

    return decorate


def _askers(case: Case) -> list[str]:
    return [Requester.OPERATOR.value] if case.act or case.by_hand else list(Requester.values)


def _marks(case: Case, asker: str, rare: bool) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.django_db(transaction=True)] if case.alone else [pytest.mark.django_db]
    if rare or (asker == Requester.SCHEDULE and not case.swept):
        marks.append(pytest.mark.exhaustive)
    return marks


def set_stage(
    case: Case, lab: Lab, root: Any, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> Stage:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    for name in ("canary", "folder/canary"):
        (outside / name).write_bytes(b"nobody's to touch")
    for run_path, state in ((SIBLING, "sync_queued"), (ELSEWHERE, "sync_verified")):  # neither is the schedule's
        lab.run(run_path, files={"data.bin": b"a sibling's"}, state=state)
    path = lab.run(RUN_PATH, **case.built)
    case.spoil(path)
    with reading_here(monkeypatch):
        discovery.discover(root, now=now)
    scene = scene_of(lab, root, now, RUN_PATH, path)
    return Stage(scene, outside, tmp_path, monkeypatch, **more)


def run_case(case: Case, asker: str, stage: Stage, policy: Callable[..., Any]) -> None:
    if asker == Requester.SCHEDULE:
        policy(mode="scheduled", retain_hours=0, proof=case.level, equipment="CONFOCAL_01", project="PROJ-0042")
    else:
        policy(proof=case.level)
    try:
        with ExitStack() as stack:
            fault = case.make(stage)
            if isinstance(fault, AbstractContextManager) and not isinstance(fault, Path):
                stack.enter_context(fault)
            if case.then is cleared:
                stage.scene = scene_of(stage.lab, stage.root, stage.now, RUN_PATH, stage.path)
            stage.note()
            act = case.act or (timed if asker == Requester.SCHEDULE else click)
            answer = act(stage)
            _expect(case, asker, answer)
            (case.then or refused)(stage)
    except Unavailable as missing:
        skip_or_fail(missing)


def _expect(case: Case, asker: str, answer: Answer) -> None:
    by_schedule = case.act is None and asker == Requester.SCHEDULE
    by_itself = "failed" if case.reason in settlement.FAILURES else "skipped"
    action = case.action or (by_itself if by_schedule else "refused")
    reason = case.scheduled if by_schedule and case.scheduled else case.reason
    said = "" if (answer.action, answer.reason) == ("cleared", "retention") else answer.reason  # a sweep's why
    assert (answer.action, said) == (action, reason.value if reason else ""), answer.said
    if reason is not None:
        assert reason.sentence in answer.said
        # The schedule writes nothing about runs it skips; the page shows what discovery saw.
        assert by_schedule or not answer.shown or reason.sentence in answer.shown


# What there is


def survey(top: Path) -> World:
    """Map each path at and below `top` to type, mode, owner, inode, size, content, and times.

    Works by descriptors, so no path is too long; a link counts as its target, and no special file is opened.
    """
    seen: World = {b"": _entry(os.lstat(top), None, b"")}
    for folder, folders, files, descriptor in os.fwalk(os.fsencode(top)):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            relative = os.path.relpath(os.path.join(folder, name), os.fsencode(top))
            seen[relative] = _entry(status, descriptor, name)
    return seen


def _entry(status: os.stat_result, descriptor: int | None, name: bytes) -> tuple[Any, ...]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    content = _content(status, descriptor, name)
    if name == b".exlab-reserve":
        return status.st_mode, status.st_uid, status.st_gid, size  # given up and laid again where a disk is full
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_mode, status.st_uid, status.st_gid, status.st_ino, size, content, *times


def _content(status: os.stat_result, descriptor: int | None, name: bytes) -> str:
    if stat.S_ISLNK(status.st_mode):
        return os.fsdecode(os.readlink(name, dir_fd=descriptor))
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGE:
        return ""
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=descriptor), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except PermissionError:
        return "may not be read"


def _without(entry: tuple[Any, ...] | None, hidden: tuple[int, ...]) -> tuple[Any, ...] | None:
    return entry and tuple(value for index, value in enumerate(entry) if index not in hidden)


def rows(run: int) -> dict[str, Any]:
    runs = [{**row, "judged": None} for row in Run.objects.order_by("pk").values()]  # any look may judge
    # And any look may learn what the run is known by.
    counts = dict.fromkeys(("failures", "doubts", "nas_slow_times", "nas_retry_at", "manifest_sha256", "traits"))
    return {
        "roots": list(StagingRoot.objects.order_by("pk").values()),
        "runs": [{**row, **counts} if row["id"] == run else row for row in runs],
        "events": list(IngestEvent.objects.order_by("pk").values()),
        "policies": list(RetentionPolicy.objects.order_by("pk").values()),
        **{
            str(model._meta.verbose_name_plural): list(model.objects.exclude(run=run).order_by("pk").values())
            for model in (ClearAttempt, LedgerEntry, Proof)
        },
    }


def _of_others(tables: dict[str, Any], run: int) -> dict[str, Any]:
    return {
        **tables,
        "runs": [row for row in tables["runs"] if row["id"] != run],
        "events": [row for row in tables["events"] if row["run_id"] != run],
    }


def but(case: Case, **changes: Any) -> Case:
    return replace(case, **changes)
