"""A dry run, a rehearsal and a look make no call that could change the staging disk or the NAS."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.lab import policy_versions
from cleanup.models import Hold, Requester, Run, Sweep
from cleanup.rules.gates import MAX_FAILURES
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.faults import mutating
from tests.faults.blackbox import Ended, Programs
from tests.faults.scene import everything
from tests.tools.lab import METADATA, Lab, some_files

pytestmark = [pytest.mark.one_engine, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_strace")]

RUNS = "CONFOCAL_01/PROJ-0042/Runs"
SAFE = f"{RUNS}/Run_2026-04-01T10-00"


@pytest.fixture
def programs(subprocess_env: dict[str, str], tmp_path: Path) -> Iterator[Programs]:
    said = tmp_path / "said"
    said.mkdir()
    with Programs(subprocess_env, said) as programs:
        yield programs


@pytest.fixture
def verified_at() -> datetime:
    return timezone.now().replace(microsecond=0) - timedelta(hours=30)


@pytest.fixture
def blocked(lab: Lab, root: Any, verified_at: datetime) -> dict[str, Reason | None]:
    expected: dict[str, Reason | None] = {}
    paths: dict[Reason | None, Path] = {}

    def add(reason: Reason | None, **how: Any) -> Path:
        run_path = f"{RUNS}/Run_2026-04-{len(expected) + 1:02}T10-00"
        expected[run_path] = reason
        paths[reason] = lab.run(run_path, files=some_files(1), **{"verified_at": verified_at, **how})
        return paths[reason]

    def twin(reason: Reason) -> Path:
        return lab.nas / paths[reason].relative_to(lab.staging)

    add(None)
    add(Reason.CLOCK_UNTRUSTED, verified_at=verified_at + timedelta(days=900))
    add(Reason.RETENTION_NOT_ELAPSED, verified_at=timezone.now().replace(microsecond=0) - timedelta(minutes=30))
    (add(Reason.INGEST_UNREADABLE) / METADATA / "ingest.json").write_text("{broken")
    (add(Reason.NOT_IN_MANIFEST) / "late.txt").write_text("late")
    (add(Reason.MISSING_FILE) / "run_complete").unlink()
    (add(Reason.UNEXPECTED_METADATA) / METADATA / "mine.db").write_text("x")
    (add(Reason.MANIFEST_MISSING) / METADATA / "checksums.sha256").unlink()
    (add(Reason.UNSAFE_PATH) / "link").symlink_to("/etc/passwd")
    os.mkfifo(add(Reason.SPECIAL_FILE) / "pipe")
    add(Reason.NAS_MISSING_FILE, twin=False)
    add(Reason.NAS_SIZE_MISMATCH)
    (twin(Reason.NAS_SIZE_MISMATCH) / "README.md").write_text("short")
    add(Reason.NAS_CHECKSUM_MISMATCH)
    readme = twin(Reason.NAS_CHECKSUM_MISMATCH) / "README.md"
    status = readme.stat()
    readme.write_bytes(b"x" * status.st_size)
    os.utime(readme, ns=(status.st_atime_ns, status.st_mtime_ns))
    (add(Reason.HELD) / ".exlab-hold").write_text("mine")
    for reason in (Reason.MISSING_DIRECTORY, Reason.PARKED, Reason.ALREADY_CLEARING):
        add(reason)
    touched = f"{RUNS}/Run_2026-04-{len(expected) + 1:02}T10-00"
    expected[touched] = None  # only a clear can tell that its bytes are the same
    os.utime(lab.run(touched, files=some_files(1), verified_at=verified_at) / "README.md")
    os.utime(lab.staging / touched / "README.md", (verified_at.timestamp() + 60,) * 2)
    lab.run("FLOW_01/PROJ-0060/Runs/Run_2026-05-02T10-00", state="complete")
    discovery.discover(root, now=timezone.now())

    shutil.rmtree(paths[Reason.MISSING_DIRECTORY])
    runs = {run.run_path: run for run in Run.objects.with_root()}
    path_of = {reason: run_path for run_path, reason in expected.items() if reason}
    Run.objects.filter(run_path=path_of[Reason.PARKED]).update(failures=MAX_FAILURES)
    queue.new_attempt(
        runs[path_of[Reason.ALREADY_CLEARING]],
        ClearRequest(requester=Requester.OPERATOR, actor="ada"),
        now=timezone.now(),
    )
    # With another second than the others, or it might be the run whose folder is missing.
    held = add(Reason.HELD, verified_at=verified_at - timedelta(seconds=1))
    discovery.discover(root, now=timezone.now())
    Hold.objects.create(
        run=Run.objects.get(run_path=str(held.relative_to(lab.staging))),
        owner="ada",
        reason="mine",
        created_at=timezone.now(),
        until=timezone.now() + timedelta(days=9),
    )
    stray = lab.staging / RUNS / ".exlab-clearing-0123456789abcdef0123456789abcdef"
    shutil.copytree(lab.staging / SAFE, stray)
    return expected


def watched(programs: Programs, *arguments: str) -> Ended:
    ended = programs.run(*arguments, "--json", fault=mutating.Watch())  # type: ignore[arg-type]  # it has options, too
    assert ended.status == 0, ended.err
    return ended


def assert_only_looked(ended: Ended, lab: Lab) -> None:
    assert mutating.mutating(ended.trace, [lab.staging, lab.nas]) == []
    assert mutating.opened(ended.trace, lab.staging / SAFE)
    assert mutating.opened(ended.trace, lab.twin(SAFE))


def schedule(*, rehearse: bool) -> None:
    policy_versions.add_version(author="admin", now=timezone.now(), mode="scheduled", retain_hours=1, rehearse=rehearse)


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param([("sweep", "--dry-run")], marks=pytest.mark.exhaustive),
        pytest.param(
            [("discover",), ("evaluate",), ("sweep", "--dry-run", "--as-scheduled"), ("sweep", "--dry-run")],
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["dry run", "every look"],
)
def test_no_kind_of_blocked_run_is_changed(lab, programs, blocked, commands):
    schedule(rehearse=False)
    before = everything(lab)
    for arguments in commands:
        ended = watched(programs, *arguments)
        assert_only_looked(ended, lab)
    assert everything(lab) == before
    said = {run["run_path"]: (run["action"], run["reason"]) for run in json.loads(ended.out)["runs"]}
    assert said == {
        run_path: ("skipped", reason) if reason else ("would_clear", "retention")
        for run_path, reason in blocked.items()
    }


def test_looking_dry_runs_and_rehearsals_change_nothing_on_disk(lab, programs, root, verified_at):
    lab.run(SAFE, files=some_files(1), verified_at=verified_at)
    discovery.discover(root, now=timezone.now())
    schedule(rehearse=True)
    (marker,) = lab.staging.glob(".exlab-staging-*")
    marker.unlink()  # as of a root registered by a version without markers: only a real clear makes one
    before = everything(lab)
    for arguments in (("discover",), ("evaluate",), ("sweep", "--dry-run"), ("sweep", "--dry-run", "--as-scheduled")):
        assert_only_looked(watched(programs, *arguments), lab)
    ended = watched(programs, "sweep", "--as-scheduled")
    assert_only_looked(ended, lab)
    assert everything(lab) == before
    (said,) = json.loads(ended.out)["runs"]
    assert (said["run_path"], said["action"], said["reason"]) == (SAFE, "would_clear", Reason.REHEARSAL)
    timed = Sweep.objects.get(kind="timed")
    assert (timed.would_clear, timed.cleared) == (1, 0)
    # The counter-check: a real sweep makes changing calls on both sides.
    swept = watched(programs, "sweep")
    assert json.loads(swept.out)["cleared"] == 1
    assert marker.exists()
    lines = mutating.mutating(swept.trace, [lab.staging])
    assert {"renameat2", "unlinkat"} <= {line.partition("(")[0].split()[-1] for line in lines}
    assert any(SAFE.rpartition("/")[2] in line for line in lines)
    assert mutating.mutating(swept.trace, [lab.nas])  # the history there is told of the clear


BELOW = Path("/lab/staging")


@pytest.mark.parametrize(
    "line",
    [
        'rename("/lab/staging/a", "/tmp/a") = 0',
        '12 renameat2(7</lab/staging/A>, "b", 8</tmp>, "c", RENAME_NOREPLACE) = 0',
        '12 renameat2(8</tmp>, "b", 7</lab/staging/A>, "c", RENAME_NOREPLACE) = -1 EEXIST (File exists)',
        'unlinkat(7</lab/staging/A>, "b", 0) = 0',
        'unlinkat(7</lab>, "staging/b", AT_REMOVEDIR <unfinished ...>',
        'unlinkat(7</lab/other>, "../staging", AT_REMOVEDIR) = 0',
        'mkdirat(AT_FDCWD</lab/staging>, "b", 0777) = 0',
        'openat(AT_FDCWD</work>, "/lab/staging/b", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</lab/staging/b>',
        'openat(7</lab/staging>, "b", O_RDONLY|O_TRUNC) = -1 EACCES (Permission denied)',
        'openat2(7</lab/staging>, "b", {flags=O_RDWR|O_CLOEXEC, resolve=RESOLVE_BENEATH}, 24) = 8</lab/staging/b>',
        'write(8</lab/staging/b>, "abc", 3) = 3',
        "ftruncate(8</lab/staging/b>, 0) = 0",
        'truncate("/lab/staging/b", 0) = 0',
        "fallocate(8</lab/staging/b>, 0, 0, 1024) = 0",
        "fchmod(8</lab/staging/b>, 0600) = 0",
        'fchmodat(7</lab/staging>, "b", 0600) = 0',
        'chown("/lab/staging/b", 0, 0) = 0',
        'utimensat(7</lab/staging>, "b", NULL, 0) = 0',
        "utimensat(8</lab/staging/b>, NULL, NULL, 0) = 0",
        'linkat(7</tmp>, "a", 8</lab/staging>, "b", 0) = 0',
        'symlinkat("/etc", 8</lab/staging>, "b") = 0',
        'mknodat(8</lab/staging>, "b", S_IFIFO|0600) = 0',
        'setxattr("/lab/staging/b", "user.x", "1", 1, 0) = 0',
        "copy_file_range(3</tmp/a>, NULL, 8</lab/staging/b>, NULL, 10, 0) = 10",
        "ioctl(8</lab/staging/b>, FS_IOC_SETFLAGS, [FS_IMMUTABLE_FL]) = 0",
        "io_uring_setup(8, {flags=0}) = 5",
    ],
)
def test_each_call_that_changes_something_is_noticed(line):
    assert mutating.mutating(line, [BELOW]) == [line]


@pytest.mark.parametrize(
    "line",
    [
        'rename("/lab/stagings/a", "/tmp/a") = 0',
        'unlinkat(7</lab>, "b", 0) = 0',
        'openat(7</lab/staging>, "b", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY) = 8</lab/staging/b>',
        'openat(7</lab/staging>, "O_CREAT", O_RDONLY) = 8</lab/staging/O_CREAT>',
        'openat2(7</lab/staging>, "b", {flags=O_PATH|O_CLOEXEC, resolve=RESOLVE_BENEATH}, 24) = 8</lab/staging/b>',
        'write(1</tmp/out>, "/lab/staging/b", 14) = 14',
        'write(3<socket:[77]>, "7</lab/staging/b>", 14) = 14',
        "ioctl(8</lab/staging/b>, TCGETS, 0x7ffc) = -1 ENOTTY",
        "<... openat resumed>) = 8</lab/staging/b>",
        "+++ exited with 0 +++",
    ],
)
def test_looking_and_what_lies_elsewhere_are_let_through(line):
    assert mutating.mutating(line, [BELOW]) == []
