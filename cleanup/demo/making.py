"""Makes the demo, completes it, or finds it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from cleanup.clears import protocol, receipt_delivery, refusal
from cleanup.demo import accounts, building, clock, demo_plan, disk_history, past, waiting
from cleanup.demo.demo_plan import DemoPlan, DemoProgress
from cleanup.lab import policy_versions
from cleanup.lab.nas import kept_readers
from cleanup.lab.roots import demo_root, disk_usage, registration
from cleanup.models import LedgerEntry, Run, StagingRoot
from cleanup.rules.policies.policy import Mode
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans


@dataclass(frozen=True)
class Demo:
    """`passwords`: of the accounts that were just made. `share`: of their full size that its files have."""

    base: Path
    passwords: dict[str, str]
    accounts: list[str]
    share: float = 1


def make(now: datetime, *, share: float | None = None, most_past: int | None = None) -> Demo:
    """Make the demo, complete it, or find it.

    Beside a lab, or where the ledger has rows already, it gets no past: months that never were do not belong there.
    `share`: of the files' full size, by default as the disk has room. `most_past`: only the last batches of the past.
    """
    base = Path(settings.EXLAB_DATA_DIR) / "demo"
    if not base.exists():
        draft = Path(tempfile.mkdtemp(prefix="demo.part-", dir=settings.EXLAB_DATA_DIR))
        weeks = 0 if LedgerEntry.objects.exists() or _is_beside_a_lab() else most_past
        building.build(draft, now, share=share, most_past=weeks)
        draft.rename(base)  # the rename makes it whole or not at all
    plan = demo_plan.read(base)
    if plan is not None and _is_beside_a_lab():  # it came between an interrupted start and this one, or with a database
        plan = replace(plan, past=[], left_empty="")
    passwords = accounts.make(base)
    with kept_readers.keeping():
        _bring_in(base, plan, now)
    return Demo(base, passwords, accounts.existing(), plan.share if plan else 1)


def _is_beside_a_lab() -> bool:
    roots = StagingRoot.objects.exclude(name=demo_root.NAME)
    return roots.exists() or LedgerEntry.objects.exclude(run=None).exclude(root_name=demo_root.NAME).exists()


def _bring_in(base: Path, plan: DemoPlan | None, now: datetime) -> None:
    done = demo_plan.progress(base)
    fresh = plan is not None and bool(plan.past) and done == DemoProgress()
    began = plan.began_at if plan is not None and fresh else now
    with clock.set_back(began) if fresh else nullcontext():
        root = _registered(base, began)
    if not root.policies.exists():
        _set_policies(root, began)
    if plan is not None and not done.today:
        _live_until_today(root, base, plan, done)
        _bring_in_today(root, base, plan, now)
        demo_plan.DemoProgress(len(plan.past), today=True).keep(base)
    elif root.discovered_at is None:  # the files of a demo, and a new database
        _look(root, now)
        disk_usage.measure(root, now)


def _registered(base: Path, now: datetime) -> StagingRoot:
    staging, nas = str(base / "staging"), str(base / "nas")
    # An empty staging disk is no unmounted one here.
    return registration.register(
        demo_root.NAME, staging, nas_path=nas, allow_same_filesystem=True, accept_empty=True, now=now
    )


def _set_policies(root: StagingRoot, began: datetime) -> None:
    # For this root only: a real lab in the same database keeps its own policies.
    add = partial(policy_versions.add_version, root=root, author=past.ACTOR, now=began)
    add(mode=Mode.MANUAL)
    # It clears from the first day.
    add(mode=Mode.SCHEDULED, retain_hours=24, run_kind="test", rehearse=False)


def _rehearse_policy(root: StagingRoot, now: datetime) -> None:
    """A version that is new today, and rehearsed until an operator promotes it."""
    equipment = "PLATE_READER_02"
    if not root.policies.filter(equipment=equipment).exists():
        policy_versions.add_version(
            root=root,
            author=past.ACTOR,
            now=now,
            mode=Mode.SCHEDULED,
            retain_hours=24 * 5,
            rehearsal_nights=0,
            equipment=equipment,
            note="plates are kept five days",
        )


def _live_until_today(root: StagingRoot, base: Path, plan: DemoPlan, done: DemoProgress) -> None:
    for number, batch in enumerate(plan.past):
        if number >= done.past:
            past.live_through(root, base, batch)
            DemoProgress(number + 1).keep(base)


def _bring_in_today(root: StagingRoot, base: Path, plan: DemoPlan, now: datetime) -> None:
    _rehearse_policy(root, now)
    past.move_in(base, plan.today)
    if plan.left_empty:
        waiting.leave_shell(base / "staging" / plan.left_empty, now)
    _look(root, now)
    waiting.hold_one(root, now)
    for run in Run.objects.verified().with_root().filter(root=root, run_path__in=plan.to_clear):
        with _unless_refused():
            protocol.clear_run(run, actor=past.ACTOR, note="checked on the NAS", now=now)
            receipt_delivery.tell_and_deliver(now=timezone.now(), runs=[run])  # the clear has ended since `now`
    disk_history.invent(root, now)
    waiting.pause_batch(root, now)


def _look(root: StagingRoot, now: datetime) -> None:
    discovery.discover(root, now=now)
    orphans.inspect(root, now=now)


@contextmanager
def _unless_refused() -> Iterator[None]:
    try:
        yield
    except refusal.Refused as refused:  # one run too many does not spoil the demo
        past.logger.warning("a run of the demo was not cleared: %s", refused)
