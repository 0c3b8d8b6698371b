"""The product's side of each row. Everything before the returned work is not measured."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measuring import Work
from cleanup.clears import protocol
from cleanup.lab.roots import opening
from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.rules.policies.policy import ProofLevel
from cleanup.runs import discovery
from cleanup.runs.facts import inspection
from cleanup.runs.proofs import proofs
from cleanup.storage import handles, hash_pool, linux
from cleanup.storage.staging import manifest, removal, run_tree

Counted = tuple[int, int]


def clear(place: Path, expected: Counted) -> Work:
    """The whole clear of a staged run by the policy in force, from claim to ledger."""
    run = _discovered(place)

    def work() -> None:
        _expect(protocol.clear_run(run, now=datetime.now(UTC), actor="bench"), expected)

    return work


def clear_proven(place: Path, expected: Counted) -> Work:
    """The same, of a run whose bytes were proven before."""
    run = _discovered(place)
    now = datetime.now(UTC)
    with opening.reached(run) as (opened, reader):
        look, _decision = inspection.look(
            run, opened, reader, RetentionPolicy.objects.effective_for(run), now, operator=True
        )
    assert look.facts.proof is not None and not look.facts.proof.findings, look.facts.proof
    proof = proofs.keep(run, look.facts.proof, ProofLevel.CHECKSUM, look.evidence, now)

    def work() -> None:
        _expect(protocol.clear_run(run, now=datetime.now(UTC), actor="bench"), expected)
        assert run.attempts.get().proof == proof, "it was read again"

    return work


def _discovered(place: Path) -> Run:
    root = next(root for root in StagingRoot.objects.all() if place.is_relative_to(root.path))
    discovery.discover(root, now=datetime.now(UTC))
    return Run.objects.with_root().get(root=root, run_path=str(place.relative_to(root.path)))


def remove(place: Path, expected: Counted) -> Work:
    """The removal of a planned run: each entry is compared with its plan, goes, and is counted."""
    parent = os.open(place.parent, handles.DIRECTORY)
    run = os.open(place, handles.DIRECTORY)
    planned = run_tree.scan(run).entries
    status = linux.status(run, run_tree.INGEST_PATH)
    record: dict[str, Any] = {"ino": status.ino, "size": status.size, "mtime_ns": status.mtime_ns}

    def work() -> None:
        removed = removal.remove(parent, os.fsencode(place.name), run, planned, record=record)
        assert not removed.left, removed.left[:3]
        _expect((removed.freed.files, removed.freed.bytes), expected)

    return work


def size(place: Path, expected: Counted) -> Work:
    """Files, logical and allocated bytes below a folder; links count once."""

    def work() -> None:
        with handles.opened(os.open(place, handles.DIRECTORY)) as run:
            counted = run_tree.size_of(run)
        assert counted.allocated >= counted.bytes, counted
        assert counted.files >= expected[0], counted

    return work


def check_hashes(place: Path, expected: Counted) -> Work:
    """Each file of a listed tree against the manifest, as a proof reads the staged side."""
    run = os.open(place, handles.DIRECTORY)
    files = run_tree.scan(run).data_files

    def work() -> None:
        listed = manifest.read(run)
        assert listed is not None
        digests, right = listed.digests_of({entry.path for entry in files}), list[bytes]()

        for batch in hash_pool.hash_batches(run, files):
            right += [entry.path for entry, digest, _status in batch if digests[entry.path] == digest]
        _expect((len(right), run_tree.count(files).bytes), expected)

    return work


def _expect(counted: Counted, expected: Counted) -> None:
    assert counted == expected, f"{counted[0]:,} files and {counted[1]:,} bytes instead of {expected}"
