"""Registers a run, or a whole staging root, again after a move to another disk.

The record must continue the known history. No run changes on disk.
"""

import contextlib
import enum
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.roots import first_nights, opening, registration
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.lab.roots.registration import RegistrationError
from cleanup.ledger import book, entries
from cleanup.models import ClearAttempt, LedgerKind, Phase, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import findings, identity
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.root_files import tokens
from cleanup.storage.staging import fences
from cleanup.storage.staging.records import Records
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)


class RegisterAction(enum.StrEnum):
    """What became, or would become, of one run."""

    REREGISTERED = "reregistered"
    WOULD_REREGISTER = "would_reregister"
    DECLARED_GONE = "declared_gone"
    WOULD_DECLARE_GONE = "would_declare_gone"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


_REHEARSED = {
    RegisterAction.REREGISTERED: RegisterAction.WOULD_REREGISTER,
    RegisterAction.DECLARED_GONE: RegisterAction.WOULD_DECLARE_GONE,
}


@dataclass(frozen=True)
class RegisterOrder:
    """The operator's order. `replaced`: a run whose place another took may be declared gone."""

    now: datetime
    actor: str
    note: str = ""
    replaced: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Reregistration:
    """The result for one run, with the reason as `finding` or `said`.

    `moved_from` and `moved_to`: the run paths, if changed.
    """

    run: Run
    action: RegisterAction
    finding: Finding | None = None
    said: str = ""
    moved_from: str = ""
    moved_to: str = ""


@dataclass
class Moved:
    """The result for a staging root and its runs."""

    root: StagingRoot
    warnings: list[str] = field(default_factory=list)
    runs: list[Reregistration] = field(default_factory=list)


@dataclass(frozen=True)
class FoundDirectory:
    """What lies at a run's path; `objection`: why it is not the run. `another`: the run may be declared gone."""

    identity: str = ""
    objection: Finding | None = None
    another: bool = False


def reregister_runs(runs: Iterable[Run], order: RegisterOrder) -> list[Reregistration]:
    """Register again the directories at these runs' paths, where the record allows it. Twice is harmless."""
    outcomes = []
    for run in runs:
        try:
            with undisturbed(run.root, order), opening.open_root(run.root) as descriptor:
                outcomes.append(_settle(run, descriptor, order))
        except Unreachable as error:
            outcomes.append(Reregistration(run, RegisterAction.REFUSED, error.finding))
    return outcomes


def reregister_root(
    root: StagingRoot,
    order: RegisterOrder,
    *,
    path: str = "",
    nas_path: str = "",
    instrument_nas: Mapping[str, str] | None = None,
    with_runs: bool = True,
) -> Moved:
    """Register a staging root again, at `path` if given, with its staged runs. Twice is harmless.

    Without `path` it must carry its token; a new place never gets the old one. Missing and foreign runs stay unchanged.
    With its runs a retired root is taken up again.

    Raises RegistrationError for an unfit place, or a clear under way.
    """
    with undisturbed(root, order):
        _refuse_half(root, with_runs=with_runs)
        place = registration.inspect_place(root, path=path, nas_path=nas_path, instrument_nas=instrument_nas)
        root.retired_at = place.retired_at = None
        refuse_fences(root, place)
        moved = Moved(place, _warnings(root, place))
        runs = list(Run.objects.staged().with_root().filter(root=root).order_by("run_path")) if with_runs else []
        if path:
            _refuse_unknown_place(root, place, runs)
        elif with_runs:
            _refuse_unreachable(root)
        if not order.dry_run:
            if path:
                registration.prepare_place(place)
            _save(root, place, order)
        else:
            refuse_active(root)
        if with_runs:
            with _opened(place, order) as descriptor:
                moved.runs = [_settle(run, descriptor, order, place=place) for run in runs]
    return moved


@contextlib.contextmanager
def undisturbed(root: StagingRoot, order: RegisterOrder) -> Iterator[None]:
    """Keep discovery away, which would write down the old place."""
    with contextlib.ExitStack() as stack:
        if not order.dry_run:
            stack.enter_context(opening.data_dir().lock(f"discovery-{root.pk}", wait=True))
        yield


@contextlib.contextmanager
def _opened(place: StagingRoot, order: RegisterOrder) -> Iterator[int]:
    # A rehearsal lays no token and needs none.
    if order.dry_run and not place.token:
        with handles.opened(handles.open_root(place.path)) as descriptor:
            yield descriptor
        return
    with opening.open_root(place) as descriptor:
        yield descriptor


def _refuse_half(root: StagingRoot, *, with_runs: bool) -> None:
    if root.retired_at is None and StagingRoot.objects.exclude(retired_at=None).filter(pk=root.pk).exists():
        raise RegistrationError(f"{root.name} was retired meanwhile. Nothing was done.")
    if root.retired_at is not None and not with_runs:
        raise RegistrationError(f"{root.name} is retired: it is taken up again with its runs (--all), or not at all.")


def _refuse_unreachable(root: StagingRoot) -> None:
    try:
        with opening.open_root(root):
            return
    except Unreachable as error:
        said = f"{error.finding.reason.sentence} ({error.finding.detail})"
        raise RegistrationError(
            f"{root.path}: {said} If another disk with the same runs lies there, say so with --path."
        ) from None


def _refuse_unknown_place(root: StagingRoot, place: StagingRoot, runs: list[Run]) -> None:
    if not runs or (root.token and place.token == root.token):
        return
    with handles.opened(handles.open_root(place.path)) as descriptor:
        if not any(_look(run, descriptor).objection is None for run in runs):
            raise RegistrationError(
                f"None of the {len(runs)} staged runs of {root.name} lies in {place.path}: is it the right place?"
            )


def refuse_fences(root: StagingRoot, place: StagingRoot) -> None:
    # A half-removed run can only be finished where its plan was made.
    incomplete = ClearAttempt.objects.filter(
        run__root=root, phase=Phase.DONE, reason=Reason.REMOVAL_INCOMPLETE
    ).select_related("run")
    if not incomplete:
        return
    with contextlib.ExitStack() as stack:
        places = []
        with contextlib.suppress(OSError):
            places.append(stack.enter_context(handles.opened(handles.open_root(place.path))))
        with contextlib.suppress(Unreachable):
            places.append(stack.enter_context(opening.open_root(root)))
        for attempt in incomplete:
            fence = fences.fence_name(attempt.pk.hex)
            if any(_lies_there(descriptor, attempt.run, fence) for descriptor in places):
                raise RegistrationError(
                    f"{run_paths.show(fence)} beside {attempt.run.run_path} is what a clear could not remove. Let "
                    "`recover` finish it where it was begun, or take it away by hand; then try again."
                )


def _lies_there(root: int, run: Run, name: bytes) -> bool:
    try:
        with opening.open_run(root, run.run_path, name=name):
            return True
    except Unreachable as error:
        return error.finding.reason is not Reason.MISSING_DIRECTORY


def refuse_active(root: StagingRoot) -> None:
    active = ClearAttempt.objects.filter(run__root=root, phase__in=ClearAttempt.ACTIVE).count()
    if active:
        raise RegistrationError(
            f"{active} clears of {root.name} have not come to their end. Wait for them, or let `recover` settle them "
            "with the disk in its old place; then try again."
        )


def _save(root: StagingRoot, place: StagingRoot, order: RegisterOrder) -> None:
    # The rows are locked, so no attempt can begin.
    with transaction.atomic():
        list(Run.objects.select_for_update(no_key=True).filter(root=root).values_list("pk", flat=True))
        resumed = StagingRoot.objects.filter(pk=root.pk).exclude(retired_at=None).exists()
        refuse_active(root)
        StagingRoot.objects.filter(pk=root.pk).update(
            path=place.path,
            token=place.token,
            nas_path=place.nas_path,
            nas_token=place.nas_token,
            instrument_nas=place.instrument_nas,
            problem="" if resumed or place.path != root.path else root.problem,
            retired_at=None,
        )
        if resumed:
            Run.objects.staged().filter(root=root).doubt()
        if resumed or first_nights.place_of(place) != first_nights.place_of(root):
            note = "it was taken up again" if resumed else "it was registered in another place"
            first_nights.came(place, order.now, note=note, author=order.actor)
        # Other runs may now have the same twins, and a clear may come before discovery.
        shared_twins.note_places(place)
    if (place.path, place.token, place.nas_path, place.nas_token) != (
        root.path,
        root.token,
        root.nas_path,
        root.nas_token,
    ):
        logger.info("%s is registered again: %s, NAS root %s", root.name, place.path, place.nas_path or "-")


def _warnings(root: StagingRoot, place: StagingRoot) -> list[str]:
    # The old disk carries the same token and looks like a staging root.
    if place.path == root.path or place.token != root.token:
        return []
    try:
        with opening.open_root(root) as old, handles.opened(handles.open_root(place.path)) as new:
            if os.path.samestat(os.fstat(old), os.fstat(new)):
                return []
    except Unreachable:
        return []
    token = f"{root.path}/{tokens.TOKEN.decode()}"
    return [f"{root.path} still carries the same token, and it is not looked at any more: remove {token}."]


def _settle(run: Run, root: int, order: RegisterOrder, *, place: StagingRoot | None = None) -> Reregistration:
    # A rehearsal takes no lock, which would stop a clear.
    with contextlib.ExitStack() as stack:
        if not order.dry_run and not stack.enter_context(opening.data_dir().lock(str(run.pk))):
            return Reregistration(run, RegisterAction.REFUSED, Finding(Reason.ALREADY_CLEARING))
        if (finding := unfit(run)) is not None:
            return Reregistration(run, RegisterAction.REFUSED, finding)
        found = _look(run, root)
        action = _decide(run, found, order)
        if action in _REHEARSED:
            if order.dry_run:
                action = _REHEARSED[action]
            elif not _write(run, found, action, order, place):
                return Reregistration(run, RegisterAction.REFUSED, Finding(Reason.ALREADY_CLEARING))
    return Reregistration(run, action, found.objection)


def unfit(run: Run) -> Finding | None:
    """Return why a run cannot be registered again, without looking at its path."""
    run.refresh_from_db(fields=["state", "gone_at", "identity"])
    if run.state == State.CLEARED:
        return Finding(Reason.ALREADY_CLEARED)
    if run.gone_at is not None:
        return Finding(Reason.IDENTITY_MISMATCH, f"it was declared gone on {run.gone_at:%Y-%m-%d}")
    return Finding(Reason.ALREADY_CLEARING) if run.active_attempt else None


def _decide(run: Run, found: FoundDirectory, order: RegisterOrder) -> RegisterAction:
    if found.objection is not None:
        return RegisterAction.DECLARED_GONE if found.another and order.replaced else RegisterAction.REFUSED
    return RegisterAction.UNCHANGED if identity.same(run.identity, found.identity) else RegisterAction.REREGISTERED


def _look(run: Run, root: int) -> FoundDirectory:
    try:
        with opening.open_run(root, run.run_path) as opened:
            if (fence := own_fence(run, opened)) is not None:
                return FoundDirectory(objection=Finding(Reason.PATH_OCCUPIED, f"it lies beside it as {fence}"))
            return _compare(run, opened)
    except Unreachable as error:
        return FoundDirectory(objection=error.finding)
    except OSError as error:
        return FoundDirectory(objection=errors.way_blocked(error))


def own_fence(run: Run, opened: OpenRun) -> str | None:
    """Return the name under which a clear of this run left it; else None."""
    ours = {fences.fence_name(attempt.hex) for attempt in run.attempts.values_list("pk", flat=True)}
    return next((run_paths.show(name) for name in fences.found_in(opened.parent) if name in ours), None)


def _compare(run: Run, opened: OpenRun) -> FoundDirectory:
    status = linux.status(opened.run)
    try:
        record = findings.read_records(opened, *record_places(run))
    except ingest.IngestError as error:
        seen = identity.of(status, None)
        # In its own directory the record is damaged; it does not mean another run.
        another = not identity.same(run.identity, seen)
        return FoundDirectory(seen, Finding(Reason(error.reason), error.detail), another=another)
    seen = identity.of(status, record)
    objection = objection_to(run, record, seen)
    return FoundDirectory(seen, objection, another=objection is not None)


def objection_to(run: Run, record: Records, seen: str) -> Finding | None:
    """Return why a record is not this run's; without a known history the directory's identity `seen` decides."""
    if not record.main.history:
        return _compare_origin(run, seen)
    known = list(run.events.order_by("position").values_list("digest", flat=True))
    if not known:
        if identity.same(run.identity, seen):
            return None
        return Finding(Reason.IDENTITY_MISMATCH, "no history of this run is known")
    written = [entry.digest for entry in record.main.history]
    if written[: len(known)] == known:
        return None
    if written[0] != known[0]:
        return Finding(Reason.IDENTITY_MISMATCH, "its history begins otherwise")
    return Finding(Reason.INGEST_DISAGREES, "its history is not the one that is known")


def _compare_origin(run: Run, seen: str) -> Finding | None:
    ours, theirs = run.identity.rpartition(":")[2], seen.rpartition(":")[2]
    if identity.same(run.identity, seen) or (ours == theirs and ours != "-"):
        return None
    return Finding(Reason.IDENTITY_MISMATCH, "its creation.json is not the one that is known")


def _write(
    run: Run, found: FoundDirectory, action: RegisterAction, order: RegisterOrder, place: StagingRoot | None
) -> bool:
    """False: another process took the run meanwhile."""
    if action is RegisterAction.REREGISTERED:
        # Facts of the old directory do not hold here; the next discovery looks again.
        changes = {"identity": found.identity, "facts": {}, "problem": "", "failures": 0}
        if run.returned_at is not None:
            changes["returned_at"] = order.now  # it was copied back after the first sight
        detail = f"from {run.identity} to {found.identity}"
    else:
        changes = {"gone_at": order.now}
        detail = f"declared gone: {run.identity}; at its path lies {found.identity}"
    if place is not None and place.path != run.root.path:
        detail += f"; the staging root moved from {run.root.path} to {place.path}"
    with book.writing():
        mine = Run.objects.select_for_update(no_key=True).staged().filter(pk=run.pk, identity=run.identity)
        if not mine or run.active_attempt or not Run.objects.filter(pk=run.pk).update(**changes):
            return False
        Run.objects.filter(pk=run.pk).doubt()
        reason = "" if action is RegisterAction.REREGISTERED else Reason.IDENTITY_MISMATCH
        entries.write_entry(
            run,
            kind=LedgerKind.REREGISTERED,
            actor=order.actor,
            now=order.now,
            reason=reason,
            detail=f"{detail}; {order.note}" if order.note else detail,
        )
    logger.info("%s %s by %s: %s", action.replace("_", " "), run.run_path, order.actor, detail)
    return True
