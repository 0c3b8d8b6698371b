"""The look under the fence on a NAS far away: how often it waits for an answer."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from cleanup.clears import nas_questions, protocol, queue
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots import registration
from cleanup.models import Phase, Requester
from cleanup.runs import discovery
from cleanup.storage.nas import challenge
from tests.faults import mounts
from tests.faults.mounts import SftpTraffic
from tests.tools.lab import RUN_PATH, Lab

FILES, LARGE = 320, 32
SECONDS = 0.001


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch, traffic: SftpTraffic) -> Iterator[dict[str, float]]:
    reopen, told = nas_questions._reopen, dict[str, float]()

    def reopen_and_note(*args: object) -> None:
        traffic.requests, traffic.most_at_once, begun = Counter(), 0, time.monotonic()
        reopen(*args)  # type: ignore[arg-type]
        told.update(waits=traffic.waited_for, at_once=traffic.most_at_once, seconds=time.monotonic() - begun)

    with monkeypatch.context() as patch:
        patch.setattr(nas_questions, "_reopen", reopen_and_note)
        yield told


@pytest.mark.exhaustive
@pytest.mark.one_engine
def test_each_copy_is_opened_again_in_three_round_trips_sixteen_at_once(
    lab: Lab, now: datetime, db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes some seconds: a server that answers each request a millisecond later, and its mount."""
    far = tmp_path / "far"
    far.mkdir()
    sizes = {f"d{each % 8}/f{each}.raw": 300_000 if each < LARGE else 2_000 for each in range(FILES)}
    path = lab.run(files={name: os.urandom(size) for name, size in sizes.items()})
    (lab.nas / "CONFOCAL_01").rename(far / "CONFOCAL_01")
    (far / ".exlab-root").write_text("11111111-2222-4333-8444-555555555555\n")
    with mounts.far_away_sshfs(lab.nas, far, seconds=SECONDS) as traffic:
        root = registration.register(
            "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, now=now
        )
        discovery.discover(root, now=now)
        run = root.runs.get(run_path=RUN_PATH)
        attempt = queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)
        with noted(monkeypatch, traffic) as told:
            attempt = protocol.perform(attempt, now=now)
    assert (attempt.phase, attempt.detail) == (Phase.DONE, "")
    assert not path.exists()
    # Each copy was opened and read, the large ones at both ends; no answer was waited for more than that.
    assert 2 * FILES <= told["waits"] <= 3 * FILES
    assert challenge.AT_A_TIME // 2 <= told["at_once"] <= 2 * challenge.AT_A_TIME
