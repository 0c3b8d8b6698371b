"""The checks between comparison and commit. Each raises Refused."""

import os
from collections.abc import Sequence

from cleanup.clears import nas_questions
from cleanup.clears.refusal import Doubted, Refused
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.models import (
    ClearAttempt,
    Run,
)
from cleanup.rules.facts import Finding
from cleanup.rules.gates import BY_HOLD_FILE
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import findings
from cleanup.runs.facts.inspection import Look
from cleanup.runs.proofs import proofs
from cleanup.storage import errors, linux
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences, own_storage, record_locks, run_tree
from cleanup.storage.staging.plan import Plan


def expect_no_writer(opened: OpenRun) -> None:
    """Expect that no program writes the run's records. Raises Refused.

    The wizard's locks are only tried: a wizard that waits for one across the rename makes the folder again.
    """
    try:
        held = record_locks.held_lock(opened.run, patience_seconds=record_locks.PATIENCE_SECONDS)
    except OSError as error:
        raise Refused(errors.way_blocked(error)) from None
    if held is not None:
        raise Refused(Finding(Reason.WRITER_ACTIVE, f"a program holds {show(held)}"))


def expect_no_own_storage(opened: OpenRun) -> None:
    """Expect that the record can be renamed into the run after the commit. Raises Refused, OSError."""
    if problem := own_storage.objection(opened.parent, opened.run):
        raise Refused(Finding(Reason(problem.reason), problem.detail))


def expect_own_fence(opened: OpenRun, plan: Plan) -> None:
    """Expect the compared directory under the fence's name. Raises Refused."""
    if linux.status(opened.parent, fences.fence_name(plan.attempt)).ino != plan.ino:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was replaced while it was compared"))


def expect_planned(run: Run, opened: OpenRun, plan: Plan) -> None:
    """Expect the fenced tree to equal the plan, without a writer. Raises Refused."""
    found = run_tree.scan(opened.run)
    if found.is_held:
        raise Refused(Finding(Reason.HELD, f"{BY_HOLD_FILE}, laid while it was cleared"))
    changes = [problem.detail for problem in found.problems] + run_tree.differences(
        plan.entries, found.entries, strict=True
    )
    if changes or found.ino != plan.ino:
        raise Refused(Finding(Reason.CHANGED_SINCE_VERIFICATION, "while it was cleared: " + proofs.name_some(changes)))
    expect_no_writer(opened)
    busy = findings.find_writers(found, [os.fsencode(run.leaf), fences.fence_name(plan.attempt)])
    if busy:
        raise Refused(busy[0])
    expect_own_fence(opened, plan)
    _expect_in_place(run, opened, plan)


def _expect_in_place(run: Run, opened: OpenRun, plan: Plan) -> None:
    # The folders above the run may have been moved as a whole.
    try:
        with (
            opening.open_root(run.root) as root,
            opening.open_run(root, run.run_path, name=fences.fence_name(plan.attempt)) as found,
        ):
            if os.path.samestat(os.fstat(found.run), os.fstat(opened.run)):
                return
    except Unreachable as error:
        raise Refused(error.finding) from None
    raise Refused(Finding(Reason.IDENTITY_MISMATCH, "another directory lies at its path"))


def expect_twin(attempt: ClearAttempt, opened: OpenRun, look: Look, reader: Reader) -> None:
    """Expect the NAS to list what the proof saw. Raises Refused."""
    assert attempt.proof is not None and look.scan is not None  # noqa: S101
    if attempt.proof.level == ProofLevel.RECORD:
        return
    if look.listing is None:
        raise Refused(Finding(Reason.NOT_COMPARED))
    files = look.scan.data_files
    changed = proofs.changed_on_nas(attempt.run, look.listing, files, reader, staging=opened.root)
    if isinstance(changed, proofs.Renumbered):
        _expect_same_bytes(attempt, opened, changed, files, reader)
    elif changed is not None:
        raise Refused(changed)


def _expect_same_bytes(
    attempt: ClearAttempt, opened: OpenRun, found: proofs.Renumbered, files: Sequence[run_tree.Entry], reader: Reader
) -> None:
    """Compare the files again whose ctime or inode number changed. Raises Doubted."""
    if found.rewritten:
        names = proofs.name_some(list(found.rewritten))
        raise Doubted(Finding(Reason.NOT_COMPARED, f"perhaps written anew on the NAS since it was compared: {names}"))
    renumbered = [entry for entry in files if entry.path in found.paths]
    if finding := nas_questions.compare_blocks(attempt, opened, reader, renumbered):
        raise Doubted(finding)


def expect_another_place(attempt: ClearAttempt, opened: OpenRun, look: Look, reader: Reader) -> None:
    """Expect the twin not to be the fenced run itself. Raises Refused, OSError."""
    assert attempt.proof is not None and look.scan is not None  # noqa: S101
    if attempt.proof.level == ProofLevel.RECORD:
        return  # the page and the receipt say that the NAS is not asked
    found = nas_questions.ask(attempt, opened, reader, look.scan.data_files)
    if found is not None:
        raise Refused(found)
