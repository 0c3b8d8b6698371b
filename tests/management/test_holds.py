"""`pin` and `unpin`, and a new hold on both engines."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from cleanup.clears import last_checks, protocol, refusal
from cleanup.management.base import UsageError
from cleanup.models import Hold, HoldSource, Run
from cleanup.runs import discovery
from cleanup.runs.holds import holds, in_force
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]
LATER = "2036-01-01T00:00:00Z"


@pytest.fixture
def run(lab: Lab, root: Any, now: datetime) -> Run:
    lab.run()
    discovery.discover(root, now=now)
    return Run.objects.with_root().get()


@pytest.fixture
def path(lab: Lab) -> Path:
    return lab.staging / RUN_PATH


def call(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command(*arguments, stdout=out)
    except SystemExit as left:
        return int(left.code or 0), out.getvalue()
    return 0, out.getvalue()


def hold(*more: str) -> tuple[int, str]:
    return call("hold", RUN_PATH, "--until", LATER, "--reason", "referees", *more)


def test_holds_and_says_so(run: Run) -> None:
    User.objects.create_user("ada")
    status, said = hold("--user", "ada", "--json")
    answer = json.loads(said)
    assert (status, answer["root"], answer["run_path"]) == (0, "lab", RUN_PATH)
    row = Hold.objects.get()
    assert answer["hold"] == {
        "by": "person",
        "owner": "ada",
        "reason": "referees",
        "since": row.created_at.isoformat(),
        "until": "2036-01-01T00:00:00+00:00",
        "released_at": None,
        "released_by": None,
    }
    assert (row.run, row.owner, row.until) == (run, "ada", datetime(2036, 1, 1, tzinfo=UTC))


def test_holding_and_releasing_twice_is_harmless(run: Run) -> None:
    assert hold() == hold()
    assert Hold.objects.count() == 1
    status, said = call("release", RUN_PATH)
    assert (status, said.startswith(f"released {RUN_PATH}: the hold of ")) == (0, True)
    assert call("release", RUN_PATH) == (0, f"{RUN_PATH} is not held\n")


def test_releases_all_holds_of_people(run: Run) -> None:
    User.objects.create_user("bob")
    hold()
    hold("--user", "bob")
    status, said = call("release", RUN_PATH, "--user", "bob", "--json")
    answer = json.loads(said)
    assert (status, answer["held_by_file"]) == (0, None)
    assert [one["released_by"] for one in answer["released"]] == ["bob", "bob"]
    assert not in_force.in_force(datetime.now(UTC)).exists()


def test_several_runs_are_held_and_released_and_the_worst_is_the_exit(lab: Lab, run: Run, now: datetime) -> None:
    other = RUN_PATH.replace("T14-32", "T15-00")
    gone = RUN_PATH.replace("T14-32", "T16-00")
    for path in (other, gone):
        lab.run(path)
    discovery.discover(run.root, now=now)
    Run.objects.filter(run_path=gone).update(state="cleared")
    status, said = call("hold", RUN_PATH, other, gone, other, "--until", LATER, "--reason", "referees", "--json")
    answers = {each["run_path"]: each for each in json.loads(said)["runs"]}
    assert (status, set(answers)) == (1, {RUN_PATH, other, gone})
    assert answers[gone]["hold"] is None and "has been cleared" in answers[gone]["refused"]
    assert answers[other]["hold"]["reason"] == "referees" and answers[other]["refused"] is None
    (lab.staging / other / ".exlab-hold").touch()
    status, said = call("release", RUN_PATH, other)
    assert status == 0 and said.count("released ") == 2 and "is still held by the file" in said
    status, said = call("release", RUN_PATH, other, "--json")
    assert (status, [each["released"] for each in json.loads(said)["runs"]]) == (1, [[], []])
    with pytest.raises(CommandError) as unknown:
        call_command("hold", RUN_PATH, "no/such/Runs/run", "--until", LATER, "--reason", "x")
    assert unknown.value.returncode == 2 and not in_force.in_force(datetime.now(UTC)).filter(source="person").exists()


def test_a_hold_by_a_file_is_not_released_and_it_is_told_how_it_ends(run: Run, path: Path) -> None:
    """Discovery has not seen the file yet: the command looks itself."""
    (path / ".exlab-hold").write_text("for Ada")
    status, said = call("release", RUN_PATH)
    assert status == 1
    assert "(for Ada)" in said
    assert f"take {path}/.exlab-hold away" in said
    hold()
    status, said = call("release", RUN_PATH)
    assert (status, "is still held by the file" in said) == (0, True)
    (path / ".exlab-hold").unlink()
    assert call("release", RUN_PATH) == (0, f"{RUN_PATH} is not held\n")
    assert Hold.objects.get(source=HoldSource.FILE).released_at is not None


def test_where_the_run_cannot_be_looked_at_the_last_look_counts(run: Run, path: Path, now: datetime, root: Any) -> None:
    (path / ".exlab-hold").write_text("for Ada")
    discovery.discover(root, now=now)
    path.rename(path.with_name("away"))
    status, said = call("release", RUN_PATH, "--json")
    assert (status, json.loads(said)["held_by_file"]["reason"]) == (1, "for Ada")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--until", "2999-01-01", "--reason", "x"], "ten years"),
        (["--until", LATER, "--reason", " "], "needs a reason"),
    ],
)
def test_what_is_refused_is_exit_1(run: Run, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refused:
        call_command("hold", RUN_PATH, *arguments)
    assert refused.value.returncode == 1
    assert not Hold.objects.exists()


def test_a_cleared_run_is_refused(run: Run) -> None:
    Run.objects.update(state="cleared")
    with pytest.raises(CommandError, match="has been cleared") as refused:
        hold()
    assert refused.value.returncode == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda: call_command("hold", "no/such/Runs/run", "--until", LATER, "--reason", "x"),
        lambda: call_command("release", "no/such/Runs/run"),
        lambda: hold("--root", "nowhere"),
        lambda: hold("--user", "nobody-known"),
        lambda: call_command("release", RUN_PATH, "--user", "nobody-known"),
    ],
    ids=["hold: path", "release: path", "root", "hold: user", "release: user"],
)
def test_bad_usage_is_exit_2(run: Run, act: Callable[[], Any]) -> None:
    with pytest.raises(UsageError) as refused:
        act()
    assert refused.value.returncode == 2


@pytest.mark.parametrize("arguments", [["--reason", "x"], ["--until", LATER], ["--until", "soon", "--reason", "x"]])
def test_an_end_and_a_reason_are_needed(run: Run, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("hold", RUN_PATH, *arguments)


# On both engines


def test_laying_a_hold_locks_the_run_first(run: Run, now: datetime) -> None:
    """As the commit of a clear does before it looks for holds: so neither overlooks the other."""
    with CaptureQueriesContext(connection) as captured:
        holds.hold(run, owner="ada", reason="x", until=now + timedelta(days=1), now=now)
    first = next(query["sql"] for query in captured.captured_queries if "SAVEPOINT" not in query["sql"])
    assert 'FROM "cleanup_run"' in first
    assert connection.vendor == "sqlite" or "FOR UPDATE" in first


def test_a_run_has_one_hold_by_file_at_a_time(run: Run, now: datetime) -> None:
    for _ in range(2):
        holds.note_file(run, holds.HoldFile("mine", "lab"), now=now)
    row = Hold.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.create(run=run, source=HoldSource.FILE, owner="lab", reason="", created_at=now)
    holds.note_file(run, None, now=now)
    holds.note_file(run, holds.HoldFile("again", "lab"), now=now)
    assert Hold.objects.exclude(pk=row.pk).get().released_at is None


def in_a_thread(act: Callable[[], Any]) -> Future[Any]:
    def do() -> Any:
        try:
            return act()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(do)
    pool.shutdown(wait=False)
    return future


@pytest.mark.django_db(transaction=True)
def test_a_hold_waits_for_a_clear_that_is_just_committed_and_is_refused(run: Run, now: datetime) -> None:
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(state="cleared")
        held = in_a_thread(lambda: holds.hold(run, owner="ada", reason="x", until=now + timedelta(1), now=now))
        with pytest.raises(TimeoutError):
            held.result(timeout=0.3)
    with pytest.raises(holds.HoldRefused, match="has been cleared"):
        held.result(timeout=20)
    assert not Hold.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_commit_waits_for_a_hold_that_is_just_laid_and_is_refused(
    run: Run, path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All gates were passed and the last look is done; a hold is being written."""
    looked, laid = Event(), Event()
    look_again = last_checks.expect_planned

    def look_and_wait(*args: Any) -> None:
        look_again(*args)
        looked.set()
        assert laid.wait(timeout=20)

    monkeypatch.setattr(last_checks, "expect_planned", look_and_wait)
    cleared = in_a_thread(lambda: protocol.clear_run(run, now=now, actor="bob"))
    assert looked.wait(timeout=20)
    with transaction.atomic():
        holds.hold(run, owner="ada", reason="x", until=now + timedelta(days=3000), now=now)
        laid.set()
        with pytest.raises(TimeoutError):
            cleared.result(timeout=0.3)
    with pytest.raises(refusal.Refused, match="held: by ada: x"):
        cleared.result(timeout=20)
    assert path.is_dir()
    assert Run.objects.get().state == "sync_verified"
