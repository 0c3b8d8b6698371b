"""Twins that several runs share, found by the indexed digests `twin_key` and `twin_place`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Min, Q

from cleanup.lab import alerts
from cleanup.lab.alerts import AlertState
from cleanup.lab.nas.nas_roots import Twin, record_places, twin_of
from cleanup.lab.nas.nas_transport import Readers
from cleanup.models import AlertKind, Run, RunQuerySet, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.storage.nas import client
from cleanup.storage.staging import records
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.twin_paths import NAMED, RUN_PATH, as_one_name

# Verified runs tried under other layouts.
_TRIED = 200
_AT_ONCE = 500


def note_places(root: StagingRoot) -> None:
    """Store where the twins of a root's runs lie; cleared runs keep theirs."""
    runs = Run.objects.filter(root=root, gone_at=None).filter(~Q(state=State.CLEARED) | Q(twin_place=""))
    changed = []
    for run in runs.only("run_path", "equipment", "twin_key", "twin_place", "root").iterator(chunk_size=2000):
        run.root = root
        if set_place(run):
            changed.append(run)
        if len(changed) == _AT_ONCE:
            Run.objects.bulk_update(changed, ["twin_key", "twin_place"])
            changed = []
    Run.objects.bulk_update(changed, ["twin_key", "twin_place"])


def have_moved(root: StagingRoot) -> bool:
    """Whether the twins of a root's runs lie elsewhere than stored, by the run met first of each instrument."""
    known = Run.objects.staged().filter(root=root).order_by()
    first = [key for _equipment, key in known.values_list("equipment").annotate(Min("pk"))]
    runs = list(Run.objects.filter(pk__in=first))
    for run in runs:
        run.root = root
    return not runs or any(set_place(run) for run in runs)


def note_place(run: Run) -> None:
    """Keep beside a run where its twin lies; writes only what has changed."""
    if set_place(run):
        Run.objects.filter(pk=run.pk).update(twin_key=run.twin_key, twin_place=run.twin_place)


def set_place(run: Run) -> bool:
    """Set where the twin of a run lies, without writing it; whether that is new."""
    twin = twin_of(run)
    places = twin.key, twin.place(run.root.host)
    if (run.twin_key, run.twin_place) == places:
        return False
    run.twin_key, run.twin_place = places
    return True


def ambiguous(run: Run) -> tuple[Finding, ...]:
    """`ambiguous_twin` if another run, staged or cleared, has the same twin.

    `as_one_name` decides which paths are the same. An earlier run at the same run path does not count: its copy is an
    alert.
    """
    others = sharing(run).select_related("root")[:4]
    names = [f"{other.run_path} on {other.root.name}" for other in others]
    said = f"{twin_of(run).path}: also that of {', '.join(names[:3])}"
    return (Finding(Reason.AMBIGUOUS_TWIN, said),) if names else ()


def sharing(run: Run) -> RunQuerySet:
    """The other runs, staged or cleared, of any root, whose twin lies where the run's does."""
    twin = twin_of(run)
    if not twin.root.path:
        return Run.objects.none()
    return _at(twin, run.root).exclude(root=run.root, run_path=run.run_path)


def _at(twin: Twin, root: StagingRoot) -> RunQuerySet:
    same = Q(twin_place=twin.place(root.host))
    if twin.key:
        same |= Q(twin_key=twin.key)
    return Run.objects.filter(same, gone_at=None)


def with_shared(runs: Sequence[Run]) -> set[int]:
    """The keys of those of some hundred runs whose stored place of the twin another run has too, as `sharing`."""
    places = {run.twin_place for run in runs if run.twin_place}
    keys = {run.twin_key for run in runs if run.twin_key}
    if not places:
        return set()
    known = Run.objects.filter(Q(twin_place__in=places) | Q(twin_key__in=keys), gone_at=None).order_by()
    having: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)
    for place, key, root, run_path in known.values_list("twin_place", "twin_key", "root", "run_path").iterator():
        having[place].add((root, run_path))
        having[key].add((root, run_path))
    return {
        run.pk
        for run in runs
        if any(having[sign] - {(run.root_id, run.run_path)} for sign in (run.twin_place, run.twin_key) if sign)
    }


def is_named_by_path(run: Run) -> bool:
    """Whether the twin's path names the run; then its record need not."""
    return run.root.nas_layout == RUN_PATH


def unnamed(run: Run, listing: client.Listing | None) -> str | None:
    """Why neither the twin's record nor its path names this run, or None."""
    if is_named_by_path(run):
        return None
    if listing is None:
        return "the copy could not be read"
    if run.record_format == records.SYNC_STATE.name:
        return None if run.origin == listing.origin != "-" else "its creation.json is not that of this run"
    if listing.record is None:
        return "it has no record that can be read"
    try:
        ingest.parse_at(listing.record, *record_places(run))
    except ingest.IngestError as error:
        return error.detail
    return None


def tell_overwritten(root: StagingRoot, now: datetime) -> None:
    """Open alerts for cleared runs whose copy a verified run here replaced."""
    verified = Run.objects.filter(root=root, gone_at=None, state=State.SYNC_VERIFIED).exclude(twin_place="")
    cleared = Run.objects.filter(state=State.CLEARED, gone_at=None)
    shared = cleared.filter(
        Q(twin_place__in=verified.values("twin_place")) | Q(~Q(twin_key=""), twin_key__in=verified.values("twin_key"))
    )
    troubles = []
    for old in shared.select_related("root").defer("facts")[:_AT_ONCE]:
        here = verified.filter(Q(twin_place=old.twin_place) | Q(~Q(twin_key=""), twin_key=old.twin_key))
        new = next((run for run in here.order_by("pk") if not _same_history(old, run)), None)
        if new is not None:
            detail = f"{old.run_path} on {old.root.name}, now {new.run_path}"
            troubles.append(
                AlertState(subject=f"{new.root_id}:{old.pk}", reason=Reason.TWIN_OVERWRITTEN, detail=detail, run=new)
            )
    alerts.settle(AlertKind.TWIN, troubles, now=now, prefix=f"{root.pk}:")


def _same_history(old: Run, new: Run) -> bool:
    """Whether the cleared run was copied back: same path, and same history so far (else the same `creation.json`)."""
    if (old.root_id, old.run_path) != (new.root_id, new.run_path):
        return False
    if new.record_format == records.SYNC_STATE.name:
        return old.origin == new.origin != "-"
    before, since = (run.events.order_by("position").values_list("digest", flat=True) for run in (old, new))
    return bool(since) and list(since) == list(before)[: len(since)]


def propose_layout(root: StagingRoot, readers: Readers) -> dict[str, Any]:
    """The layout under which more verified runs have a copy: `{"layout": …, "found": …, "of": …}`.

    Else empty. It asks only if discovery found a copy missing, not if the NAS failed. Raises NasError.
    """
    runs = list(Run.objects.verified().with_root().filter(root=root, gone_at=None).order_by("-verified_at")[:_TRIED])
    runs = [run for run in runs if twin_of(run).root.path]
    without = sum(_has_no_copy(run) for run in runs)
    best, most = root.nas_layout, sum(_has_copy(run) for run in runs)
    for name in NAMED if without else ():
        if name != root.nas_layout and most < len(runs) and (found := _found(name, runs, readers)) > most:
            best, most = name, found
    return {"layout": best, "found": most, "of": len(runs)} if best != root.nas_layout else {}


def _has_copy(run: Run) -> bool:
    twin = run.facts.get("twin")
    return bool(twin and twin["files"])


def _has_no_copy(run: Run) -> bool:
    twin = run.facts.get("twin")
    return bool(twin and not twin["files"])


def _found(nas_layout: str, runs: Sequence[Run], readers: Readers) -> int:
    found = 0
    for reader, paths in _by_reader(nas_layout, runs, readers):
        found += len(reader.present(sorted(paths)))
    return found


def _by_reader(nas_layout: str, runs: Iterable[Run], readers: Readers) -> Iterable[tuple[Any, set[str]]]:
    paths: dict[int, tuple[Any, set[str]]] = {}
    for run in runs:
        reader = readers.of(run)
        paths.setdefault(id(reader), (reader, set()))[1].add(twin_of(run, nas_layout=nas_layout).path)
    return paths.values()


def collisions(root: StagingRoot, nas_layout: str) -> list[tuple[str, str]]:
    """Pairs of a root's runs, by run path, with one twin under a layout."""
    seen: dict[tuple[str, str], str] = {}
    pairs = []
    known = Run.objects.filter(root=root, gone_at=None).order_by("run_path")
    for run in known.only("run_path", "equipment", "root"):
        run.root = root
        twin = twin_of(run, nas_layout=nas_layout)
        other = seen.setdefault((twin.root.path, as_one_name(twin.path)), run.run_path)
        if other != run.run_path:
            pairs.append((other, run.run_path))
    return pairs
