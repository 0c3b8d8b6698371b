"""The copies on the NAS against what was proven, asked by names and sizes. Silence is no finding."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from django.db.models import OuterRef, Subquery

from cleanup.lab.nas.nas_roots import NasRoot, twin_of
from cleanup.lab.nas.nas_transport import Readers
from cleanup.models import ClearAttempt, Phase, Proof, Run, RunQuerySet, StagingRoot
from cleanup.monitoring.reconciliation.findings import Mismatch, Mismatches, MismatchKind
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.proofs import proofs, still_there
from cleanup.storage.nas.client import Listing, NasError
from cleanup.storage.run_paths import show

_AT_ONCE = 200
# So many different problems of one root are told.
_TOLD = 10
_KEPT = (Phase.COMMITTED, Phase.DONE)
# The NAS as a whole does not answer: the other runs are not asked for.
_WHOLE_NAS = frozenset(
    {Reason.NAS_TIMEOUT, Reason.NAS_NOT_MOUNTED, Reason.NAS_IDENTITY_MISMATCH, Reason.NAS_IS_STAGING}
)


@dataclass
class Bounds:
    """How long a pass may ask, by the monotonic clock, and for how many runs; None: for all."""

    until: float | None = None
    runs: int | None = None

    @classmethod
    def of(cls, *, seconds: float | None = None, runs: int | None = None) -> "Bounds":
        return cls(None if seconds is None else time.monotonic() + seconds, runs)

    @property
    def is_over(self) -> bool:
        return (self.until is not None and time.monotonic() >= self.until) or (self.runs is not None and self.runs <= 0)

    @property
    def is_endless(self) -> bool:
        return self.until is None and self.runs is None

    def count(self) -> None:
        if self.runs is not None:
            self.runs -= 1


@dataclass
class Asked:
    """The result of one root. `after`: the key of the last run asked for; 0 where all were."""

    asked: int = 0
    not_asked: int = 0
    waiting: int = 0
    after: int = 0
    problems: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class _Expected:
    """What the copy must hold: sizes by path where the plan is there, else at least these numbers."""

    files: int
    size: int
    sizes: Mapping[bytes, int] | None = None


def look(
    root: StagingRoot,
    readers: Readers,
    into: Mismatches,
    bounds: Bounds,
    *,
    after: int = 0,
    progress: Callable[[Asked], None] = lambda asked: None,
) -> Asked:
    """Ask for the copies of a root's verified and cleared runs, by key from `after` on."""
    result, silent = Asked(after=after), set[NasRoot]()
    for run in _verified(root, after):
        if bounds.is_over:
            result.waiting = _rest(root, result.after)
            return result
        bounds.count()
        if twin_of(run).root in silent:
            result.not_asked += 1
        elif (problem := _ask(run, readers, into)) is None:
            result.asked += 1
        else:
            result.not_asked += 1
            if problem not in result.problems and len(result.problems) < _TOLD:
                result.problems.append(problem)
            if problem.reason in _WHOLE_NAS:
                silent.add(twin_of(run).root)
        result.after = run.pk
        progress(result)
    result.after = 0
    return result


def _runs(root: StagingRoot, after: int) -> RunQuerySet:
    states = (State.SYNC_VERIFIED, State.CLEARED)
    return Run.objects.filter(root=root, gone_at=None, state__in=states, pk__gt=after).order_by("pk")


def _rest(root: StagingRoot, after: int) -> int:
    return _runs(root, after).count()


def _verified(root: StagingRoot, after: int) -> Iterator[Run]:
    newest = Proof.objects.filter(run=OuterRef("pk")).order_by("-at").values("pk")[:1]
    clear = ClearAttempt.objects.clears().filter(run=OuterRef("pk"), phase__in=_KEPT).order_by("-created_at")
    while True:
        found = _runs(root, after).select_related("root").defer("facts")
        found = found.annotate(newest_proof=Subquery(newest), newest_clear=Subquery(clear.values("pk")[:1]))
        some = list(found[:_AT_ONCE])
        if not some:
            return
        yield from some
        after = some[-1].pk


def _ask(run: Run, readers: Readers, into: Mismatches) -> Finding | None:
    """Tell of a copy that is missing or holds less; returns why the NAS did not tell, else None."""
    twin = twin_of(run)
    if not twin.root.path:
        return Finding(Reason.NAS_NOT_CONFIGURED)
    try:
        listing = readers.of(run).read(twin.path, with_bytes=False, recent=True)
    except NasError as error:
        if error.problem.reason is not Reason.NAS_MISSING_FILE:
            return error.problem
        _tell(run, MismatchKind.NAS_MISSING, _where(run, error.problem.detail), into)
        return None
    if said := _less(listing, _expected(run)):
        _tell(run, MismatchKind.NAS_DIFFERS, said, into)
    return None


def _tell(run: Run, kind: MismatchKind, detail: str, into: Mismatches) -> None:
    # It may have been declared gone while the NAS was asked.
    if Run.objects.filter(pk=run.pk, gone_at=None).exists():
        into.add(Mismatch(kind, run.root.name, run.run_path, run.pk, detail))


def _where(run: Run, detail: str) -> str:
    clear = _clear_of(run)
    here = twin_of(run).full_path
    if clear is not None and clear.twin_path not in ("", here):
        return f"{detail} at {here}; at its clear it lay at {clear.twin_path}"
    return f"{detail} at {here}"


def _clear_of(run: Run) -> ClearAttempt | None:
    key = vars(run)["newest_clear"]
    return ClearAttempt.objects.filter(pk=key).defer("decision").first() if key else None


def _expected(run: Run) -> _Expected | None:
    key = vars(run)["newest_proof"]
    clear = _clear_of(run) if run.state == State.CLEARED else None
    proof = clear.proof if clear is not None and clear.proof else Proof.objects.filter(pk=key).first()
    sizes = still_there.planned_data(clear)
    if sizes is None and proof is None:
        return None
    return _Expected(proof.files if proof else 0, proof.bytes if proof else 0, sizes)


def _less(listing: Listing, expected: _Expected | None) -> str:
    if expected is None:
        return ""
    if expected.sizes is not None:
        missing = sorted(path for path in expected.sizes if path not in listing.files)
        other = sorted(
            path for path, size in expected.sizes.items() if path in listing.files and listing.files[path].size != size
        )
        of_all = f"of {len(expected.sizes):,} files"
        said = [
            f"{len(paths):,} {of_all} {words}: {proofs.name_some([show(path) for path in paths])}"
            for paths, words in ((missing, "are missing"), (other, "have another size"))
            if paths
        ]
        return "; ".join(said)
    # More is no loss: a NAS adds files of its own, and a proof counts linked files once.
    files, size = len(listing.files), sum(twin.size for twin in listing.files.values())
    if files >= expected.files and size >= expected.size:
        return ""
    return f"proven were {expected.files:,} files, {expected.size:,} bytes; there are {files:,} files, {size:,} bytes"
