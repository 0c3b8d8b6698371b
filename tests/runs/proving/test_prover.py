"""Proofs that are made ahead of a click, with real files on both sides."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup import clear_run
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Proof, ProvingRun, Run, StagingRoot
from cleanup.rules.states import State
from cleanup.runs import discovery, run_status
from cleanup.runs.proving import prover
from cleanup.storage.data_directory import kept_digests
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = RUN_PATH.rpartition("/")[0]


@dataclass(frozen=True)
class Place:
    lab: Lab
    root: StagingRoot
    now: datetime

    def add(self, leaf: str = "Run_2026-04-17T14-32", **how: Any) -> Path:
        return self.lab.run(f"{RUNS}/{leaf}", **how)

    def look(self) -> None:
        discovery.discover(self.root, now=timezone.now())
        run_status.judge_stale(timezone.now())

    def run(self, leaf: str = "Run_2026-04-17T14-32") -> Run:
        return Run.objects.with_root().get(leaf=leaf)


@pytest.fixture
def place(lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]) -> Place:
    policy(proof="checksum")
    return Place(lab, root, now)


def test_a_run_is_proven_once_and_the_click_reads_no_byte(place: Place) -> None:
    path = place.add()
    place.look()
    before = timezone.now()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    proof, row = Proof.objects.get(), ProvingRun.objects.get()
    assert (proof.level, proof.files, bool(proof.evidence)) == ("checksum", 7, True)
    assert before <= proof.at == row.proven_at == row.first_byte_at
    assert (row.phase, row.planned_bytes) == ("proven", 2 * Run.objects.get().bytes)
    assert kept_digests.kept_runs(opening.data_dir()) == []
    assert prover.prove_due() == []
    assert clear_run(place.run(), now=timezone.now(), actor="ada")[0] > 0
    attempt = ClearAttempt.objects.get()
    assert (attempt.proof, attempt.compared_bytes, Proof.objects.count()) == (proof, 0, 1)
    assert not (path / "stack.ome.xml").exists()
    assert Run.objects.get().state == State.CLEARED
