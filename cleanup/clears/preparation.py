"""The plan, the new record and the tombstone, all durable before the commit."""

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun
from cleanup.models import (
    ClearAttempt,
    Phase,
    Run,
)
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.facts.inspection import Look
from cleanup.storage import linux
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import fences, run_tree, tree_entries
from cleanup.storage.staging.plan import Plan


@dataclass(frozen=True)
class Prepared:
    """The plan, and the entry that the published record got."""

    plan: Plan
    entry: dict[str, Any]


def keep_plan(attempt: ClearAttempt, plan: Plan, *, decided: Callable[[], dict[str, Any]] = dict) -> None:
    """Write a plan durably and name it in the attempt, with what `decided` returns and writes.

    Raises OSError, Refused.
    """
    fields = {
        "plan_sha256": opening.data_dir().write_plan(plan.attempt, plan),
        "planned_files": plan.counted.files,
        "planned_bytes": plan.counted.bytes,
    }
    with transaction.atomic():
        if not attempt.advance_alone([Phase.INTENT], Phase.INTENT, now=timezone.now(), **fields, **decided()):
            raise Refused(Finding(Reason.INTERRUPTED))


def with_locks_as_found(attempt: ClearAttempt, opened: OpenRun, plan: Plan) -> Plan:
    """Return the plan with the wizard's locks as they now lie in the fence.

    A crash before the attempt names the new plan does no harm: before the commit nothing is removed.
    """
    found = run_tree.locks(opened.run)
    if {entry.path for entry in found} == {entry.path for entry in plan.entries if run_tree.is_lock(entry)}:
        return plan
    others = (entry for entry in plan.entries if not run_tree.is_lock(entry))
    settled = replace(plan, entries=tree_entries.packed(itertools.chain(others, found)))
    keep_plan(attempt, settled)
    return settled


def not_written(error: OSError) -> Finding:
    """Return why fence, record or tombstone could not be made."""
    if error.errno == errno.EXDEV:
        return Finding(Reason.OWN_STORAGE, "the filesystem does not rename it within its folder")
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return Finding(Reason.CLEARING_UNSUPPORTED, "this filesystem cannot rename without replacing")
    return Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))


def prepare(attempt: ClearAttempt, run: Run, opened: OpenRun, look: Look, record: bytes) -> None:
    """Write the new record beside the fence and the tombstone in the data directory, both durably."""
    name, file = attempt.pk.hex, look.form.file
    like = os.stat(fences.record_path(file), dir_fd=opened.run, follow_symlinks=False)
    prepared = reserve.with_reserve(
        opened.root, lambda: fences.prepare_record(opened.parent, fences.prepared_name(name), record, like, file)
    )
    story = {
        "attempt": name,
        "run_path": run.run_path,
        "staging_root": run.root.name,
        "host": settings.EXLAB_HOST,
        "actor": attempt.actor,
        "plan_sha256": attempt.plan_sha256,
        "files": attempt.planned_files,
        "bytes": attempt.planned_bytes,
        "proof": attempt.proof.kind if attempt.proof else "",
        "manifest_sha256": attempt.proof.manifest_sha256 if attempt.proof else "",
        "twin": attempt.twin_path,
        "nas_flags": attempt.nas_flags,
        "only_here": attempt.only_here,
        # By the filesystem's own clock: the rename has set it, and a later folder at the run's path is younger.
        "fenced_ns": linux.status(opened.run).ctime_ns,
    }
    opening.data_dir().write_tombstone(
        name,
        opened.run,
        story,
        record,
        file=file.decode(),
        digests=_digests_of(look) if look.by_signature or look.facts.accepts else None,
        desktop=look.scan.desktop if look.scan is not None else (),
    )
    attempt.prepared = prepared  # the commit writes it down: before it, recovery knows the record by its name


def _digests_of(look: Look) -> dict[bytes, bytes]:
    # Only for files that were read because no manifest holds their digests.
    if look.scan is None or look.listing is None:
        return {}
    twins = {entry.path: look.listing.files.get(entry.path) for entry in look.scan.data_files}
    return {path: twin.digest for path, twin in twins.items() if twin and twin.digest}
