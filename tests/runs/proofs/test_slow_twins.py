"""A slow twin keeps only its own run from being cleared."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears import settlement
from cleanup.clears.clear_now import clear
from cleanup.clears.report import ClearReport
from cleanup.lab.nas.nas_breaker import NOT_ASKED
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, NasBreaker, Phase, Requester, RetentionPolicy, Run, Status
from cleanup.rules.decisions import Gate, Verdict
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.silent_twins import FIRST_PAUSE
from cleanup.runs import discovery, run_status
from cleanup.runs.facts import stored_facts
from cleanup.storage.nas import client
from cleanup.storage.run_paths import parse_run_path
from cleanup.sweeps.all_roots import sweep
from cleanup.text.values import instant
from cleanup.web.runs.status_text import StatusText
from cleanup.web.runs.status_text import stand as standing_of
from tests.faults import mounts
from tests.faults.means import OneReader, Unavailable, reader_here, replaced, skip_or_fail
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

RUNS = [f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-1{day}T14-32" for day in range(5, 9)]
SLOW = RUNS[0]
LATER = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-20T14-32"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def runs(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> list[str]:
    policy(mode="scheduled", retain_hours=0)
    for run_path in RUNS:
        lab.run(run_path, files={"scan/t_0000.tif": b"II*\0" * 500})
    discovery.discover(root, now=now)
    return RUNS


@contextmanager
def tape(lab: Lab, settings: Any, is_slow: Callable[[bytes], bool]) -> Iterator[threading.Event]:
    """The NAS is a real mount that gives no byte of some files until they are recalled."""
    settings.EXLAB_NAS_TIMEOUT = 2.0
    far = lab.base / "far"
    lab.nas.rename(far)
    lab.nas.mkdir()
    with ExitStack() as stack:
        try:
            recalled = stack.enter_context(mounts.slow_sshfs(lab.nas, far, is_slow))
        except Unavailable as missing:
            skip_or_fail(missing)
        yield recalled


def run_at(run_path: str) -> Run:
    return Run.objects.with_root().get(run_path=run_path)


def outcome(swept: ClearReport) -> list[tuple[str, str, str]]:
    return [(action.run_path, str(action.action), action.reason) for action in swept.runs]


def shown(run: Run, now: datetime) -> StatusText:
    attempt = run.attempts.first()
    return standing_of(run, attempt, run_status.judge_now(run, attempt, RetentionPolicy.objects.scoped(), now), now)


def refused(run: Run, reason: Reason, detail: str, now: datetime, **fields: Any) -> Run:
    who = {"host": "h", "requester": Requester.SCHEDULE, "actor": "schedule"}
    attempt = ClearAttempt.objects.create(run=run, phase=Phase.INTENT, phase_at=now, created_at=now, **who, **fields)
    settlement.finish_without_clear(attempt, Phase.REFUSED, Finding(reason, detail), now=now)
    return run_at(run.run_path)


def test_one_slow_twin_starves_no_other(lab: Lab, runs: list[str], settings: Any) -> None:
    """A real mount withholds the bytes of the oldest run. Takes 8 s: the silence, and five clears."""
    with tape(lab, settings, lambda path: path.endswith(b".tif") and SLOW.encode() in path) as recalled:
        first = sweep(now=timezone.now())
        others = [(run_path, "cleared", "retention") for run_path in RUNS[1:]]
        assert outcome(first) == [(SLOW, "skipped", "nas_slow"), *others]
        assert first.runs[0].detail == f"silent for 2 s at {SLOW}/scan/t_0000.tif, while the NAS itself answered"
        assert not NasBreaker.objects.filter(open_until__isnull=False).exists()
        assert len(NasBreaker.objects.get().abandoned) == 1, "killed, and yet it hangs"

        run, now = run_at(SLOW), timezone.now()
        assert run.nas_slow_times == 1
        assert run.nas_retry_at is not None
        assert abs(run.nas_retry_at - now - FIRST_PAUSE) < MINUTE
        standing = shown(run, now)
        assert standing.because == Reason.NAS_SLOW.sentence
        assert f"It is asked for again from {instant(run.nas_retry_at)}" in standing.detail
        assert outcome(sweep(now=now)) == [(SLOW, "skipped", "nas_slow")]
        assert run.attempts.count() == 1, "while the pause lasts no attempt is made"

        recalled.set()
        lab.run(LATER, files={"scan/t_0000.tif": b"II*\0"}, twin=False)
        shutil.copytree(lab.staging / LATER, lab.base / "far" / LATER)
        discovery.discover(run.root, now=now)
        after = sweep(now=run.nas_retry_at)
        assert outcome(after) == [(LATER, "cleared", "retention"), (SLOW, "cleared", "retention")]


@pytest.mark.exhaustive
def test_the_third_that_hangs_stops_the_asking_and_the_next_sweep_begins_with_the_others(
    lab: Lab, runs: list[str], settings: Any
) -> None:
    """Three runs without bytes, each before any other. Takes 12 s: three silences on a real mount."""
    slow = [run_path.encode() for run_path in RUNS[:3]]
    with tape(lab, settings, lambda path: path.endswith(b".tif") and any(run in path for run in slow)):
        first = outcome(sweep(now=timezone.now()))
        assert [reason for _, _, reason in first] == ["nas_slow", "nas_slow", "nas_timeout", "nas_timeout"]
        breaker = NasBreaker.objects.get()
        assert breaker.open_until is not None
        assert len(breaker.abandoned) == 3
        assert [run_at(run_path).nas_slow_times for run_path in RUNS] == [1, 1, 0, 0]
        assert run_at(RUNS[2]).nas_retry_at is not None, "it may be what stopped the NAS"
        assert run_at(RUNS[3]).nas_retry_at is None
    breaker.open_until = timezone.now()
    breaker.save()
    settings.EXLAB_NAS_TIMEOUT = 30.0
    shutil.copytree(lab.base / "far", lab.nas, dirs_exist_ok=True)
    again = outcome(sweep(now=timezone.now()))
    paused = [(run_path, "skipped", "nas_slow") for run_path in RUNS[:2]]
    assert again == [*paused, (RUNS[3], "cleared", "retention"), (RUNS[2], "cleared", "retention")]


def test_silences_in_a_row_make_the_pauses_longer_until_every_byte_was_read(runs: list[str]) -> None:
    run, now = run_at(SLOW), timezone.now()
    pauses = []
    for _ in range(3):
        run = refused(run, Reason.NAS_SLOW, "silent for 60 s, while the NAS itself answered", now)
        assert run.nas_retry_at is not None
        pauses.append((run.nas_retry_at - now) / FIRST_PAUSE)
    assert pauses == [1, 2, 4]
    run = refused(run, Reason.NOT_QUIET, "", now)
    assert run.nas_slow_times == 3, "nothing was asked of the NAS"
    run = refused(run, Reason.NAS_TIMEOUT, f"silent for 60 s; {NOT_ASKED}", now + MINUTE)
    assert (run.nas_slow_times, run.nas_retry_at) == (3, now + 4 * FIRST_PAUSE), "nor now"
    run = refused(run, Reason.NAS_CHECKSUM_MISMATCH, "scan/t_0000.tif on the NAS", now)
    assert (run.nas_slow_times, run.nas_retry_at) == (0, None)


def test_a_click_asks_at_once(runs: list[str]) -> None:
    run, now = run_at(SLOW), timezone.now()
    run = refused(run, Reason.NAS_SLOW, "silent for 60 s, while the NAS itself answered", now)
    assert (SLOW, "skipped", "nas_slow") in outcome(sweep(now=now))
    assert outcome(clear([run_at(SLOW)], now=now)) == [(SLOW, "cleared", "")]


def test_what_the_schedule_waits_for_is_a_gate_with_its_instant(runs: list[str]) -> None:
    run, now = run_at(SLOW), timezone.now()
    run = refused(run, Reason.NAS_SLOW, "silent for 60 s, while the NAS itself answered", now)
    for at, verdict in ((now, Verdict.WAIT), (now + FIRST_PAUSE, Verdict.PASS)):
        decision = stored_facts.decision(run, RetentionPolicy.objects.scoped(), at)
        gate = decision.gate(Gate.ATTEMPTS)
        assert gate.verdict is verdict
        assert gate.opens_at == (run.nas_retry_at if verdict is Verdict.WAIT else None)
        assert decision.clearable, "by a person"


def test_the_page_says_when_it_is_asked_again(runs: list[str], policy: Callable[..., Any]) -> None:
    now = timezone.now()
    run = refused(run_at(SLOW), Reason.NAS_SLOW, "silent for 60 s, while the NAS itself answered", now)
    run_status.judge_stale(now)
    run.refresh_from_db()
    assert (run.tone, run.reason) == (Status.BLOCK, "nas_slow")
    discovery.discover(run.root, now=now + MINUTE)  # which sees names and sizes, and they come at once
    run = run_at(SLOW)
    assert (run.tone, run.reason) == (Status.BLOCK, "nas_slow")
    assert run.nas_retry_at is not None
    assert f"asked for again from {instant(run.nas_retry_at)}" in shown(run, now + MINUTE).detail
    assert "The next pass asks for it again" in shown(run, run.nas_retry_at).detail
    policy(mode="manual")
    assert "by a click" in shown(run, now + MINUTE).detail
    assert shown(run, now + MINUTE).action == "Clear now"


class Silent:
    given_up = False

    def __init__(self, reader: Reader, slow: str) -> None:
        self.reader, self.slow, self.asked = reader, slow, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def read(self, twin: str, **how: Any) -> client.Listing:
        if twin != self.slow:
            return self.reader.read(twin, **how)
        self.asked += 1
        raise client.NasError(Finding(Reason.NAS_SLOW, "silent for 60 s, while the NAS itself answered"))


def test_discovery_asks_no_more_often_for_names_than_the_pauses_allow(
    runs: list[str], root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mocked: no real mount withholds names and still gives the token."""
    now = timezone.now()
    with reader_here(root) as here:
        silent = Silent(here.of(run_at(SLOW)), SLOW)
        with replaced(monkeypatch, opening, "reader_for", lambda root: nullcontext(OneReader(silent))):
            discovery.discover(root, now=now)
            discovery.discover(root, now=now + MINUTE)
            assert silent.asked == 1
            run = run_at(SLOW)
            assert (run.nas_slow_times, run.nas_retry_at, run.reason) == (1, now + FIRST_PAUSE, "nas_slow")
            assert f"asked for again from {instant(now + FIRST_PAUSE)}" in shown(run, now + MINUTE).detail
            discovery.look_at_path(root, parse_run_path(SLOW), now=now + MINUTE)
            assert silent.asked == 2, "a person does not wait for it"
            run = run_at(SLOW)
            assert run.nas_retry_at is not None
            silent.slow = ""
            discovery.discover(root, now=run.nas_retry_at)
    run = run_at(SLOW)
    assert (run.nas_slow_times, run.nas_retry_at, run.tone) == (0, None, Status.GO)
