"""Looks at the runs of one pass, one by one or many at once; one bad run must not hide the others."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError

from cleanup.lab.nas import shared_twins
from cleanup.lab.roots import opening
from cleanup.models import Run
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import at_path, rows, run_people, run_status
from cleanup.runs.at_path import AtPath
from cleanup.runs.facts import beside, inspection, stored_facts
from cleanup.runs.facts.beside import Beside
from cleanup.runs.holds import holds, likenesses
from cleanup.runs.looks import begun as begun_looks
from cleanup.runs.looks import many_rows, new_runs, unchanged
from cleanup.runs.looks.begun import BegunLook
from cleanup.runs.looks.discovered import Pass
from cleanup.runs.looks.many_rows import Looked
from cleanup.runs.proofs import differences, slow_twins
from cleanup.storage.run_paths import RunPath

logger = logging.getLogger(__name__)

# The folders of new runs are open together, three descriptors each.
AT_ONCE = 64
# What was seen is written down after so long, though a NAS is slow.
_KEPT_SECONDS = 2.0


def look_at_all(at: Pass, paths: Sequence[RunPath]) -> None:
    """Bring at most `AT_ONCE` run paths up to date, in few transactions."""
    if len(paths) < 2:
        for path in paths:
            look_at_one(at, path)
        return
    known = at_path.read_all(at.root, map(str, paths))
    with contextlib.ExitStack() as stack:
        made = _NewRuns.of(at, [path for path in paths if not known[str(path)].rows], stack)
        runs = [run for _begun, run in made.rows.values()]
        has = beside.ask_of_all(runs + [run for found in known.values() if (run := found.staged) is not None])
        kept = _Kept(at)
        for path in paths:
            with _one_of_many(at, path):
                if path in made.rows:
                    kept.add(_look_at_new(at, *made.rows[path], has))
                elif path not in made.settled:
                    found = known[str(path)]
                    kept.add(_look(at, path, found if found.rows else None, has))
        kept.write()


def look_at_one(at: Pass, path: RunPath) -> None:
    """Bring one run path up to date."""
    with _one_of_many(at, path):
        looked = _look(at, path)
        if looked is not None:
            run_people.keep([(looked.run, looked.people)])
            changed = rows.store(looked.run, looked.facts, at.now)
            at.result.count(
                looked.run, looked.facts, looked.change if looked.change != "unchanged" or not changed else "updated"
            )


@contextlib.contextmanager
def _one_of_many(at: Pass, path: RunPath) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # one bad run must not hide the others
        logger.exception("looking at %s failed", path)
        at.result.problems.append((str(path), Reason.LOOK_FAILED, type(error).__name__))
        unchanged.forget(Run.objects.staged().filter(root=at.root, run_path=str(path)).values_list("pk", flat=True))


@dataclass(frozen=True)
class _NewRuns:
    """New runs with their rows, still open, and the paths that need no further look."""

    rows: dict[RunPath, tuple[BegunLook, Run]] = field(default_factory=dict)
    settled: frozenset[RunPath] = frozenset()

    @classmethod
    def of(cls, at: Pass, paths: Sequence[RunPath], stack: contextlib.ExitStack) -> "_NewRuns":
        """What cannot be made with the others is left to a look of its own, which says why."""
        begun, settled = [], set()
        for path in paths if len(paths) > 1 else ():
            with contextlib.suppress(Exception):
                opened = stack.enter_context(opening.open_run(at.descriptor, str(path)))
                if (each := begun_looks.begin(at, path, opened, at_path.NONE)) is None:
                    settled.add(path)
                elif new_runs.may_be_made(each):
                    begun.append(each)
        if begun:
            at.result.known.read()
        try:
            made = new_runs.make(at.result, begun) if begun else []
        except DatabaseError:
            logger.exception("the rows of %s new runs cannot be written together", len(begun))
            made = []
        return cls({each.path: (each, run) for each, run in made}, frozenset(settled))


@dataclass
class _Kept:
    """Looks that are over and not written down yet."""

    at: Pass
    looked: list[Looked] = field(default_factory=list)
    since: float = 0.0

    def add(self, looked: Looked | None) -> None:
        if looked is None:
            return
        if not self.looked:
            self.since = time.monotonic()
        self.looked.append(looked)
        if time.monotonic() - self.since > _KEPT_SECONDS:
            self.write()

    def write(self) -> None:
        """Write them down and judge them, so that the pages fill while a pass is at work."""
        kept, self.looked = self.looked, []
        for each in many_rows.store_all(kept, self.at.now):
            self.at.result.count(each.run, each.facts, each.change)
        if kept:
            run_status.judge_stale(self.at.now, runs=Run.objects.filter(pk__in=[each.run.pk for each in kept]))


def _look(at: Pass, path: RunPath, known: AtPath | None = None, has: dict[int, Beside] | None = None) -> Looked | None:
    """None where nothing is to be written, and that is counted."""
    try:
        with opening.open_run(at.descriptor, str(path)) as opened:
            begun = begun_looks.begin(at, path, opened, known)
            if begun is None:
                return None
            named, at_instant = at.result.names, at.result.sighted_at
            run, change = rows.row_for(
                at.root, path, begun.found, begun.identity, begun.told, named, at_instant, begun.lies_there
            )
            if run is None:
                at.result.unchanged += 1
                return None
            return _seen(at, begun, run, change, has or {})
    except opening.Unreachable as error:
        return _unreachable(at, path, error.finding)


def _look_at_new(at: Pass, begun: BegunLook, run: Run, has: dict[int, Beside]) -> Looked | None:
    try:
        return _seen(at, begun, run, "new", has)
    except opening.Unreachable as error:
        return Looked(run, stored_facts.unreachable_facts(run, error.finding, at.now), "new")


def _seen(at: Pass, begun: BegunLook, run: Run, change: str, has: dict[int, Beside]) -> Looked | None:
    twin = slow_twins.TwinListing(run, at.readers, at.now, at_once=at.result.at_once)
    look = inspection.quick_look(
        run,
        begun.opened,
        twin.reader,
        at.now,
        recent=True,
        seen=begun.seen,
        for_granted=differences.ALWAYS,
        known_beside=has.get(run.pk),
    )
    twin.learn(look.facts)
    at.result.add_markers(look)
    facts = look.facts
    if not begun.lies_there():
        at.result.unchanged += 1  # a clear took it away, so the look tells nothing
        return None
    holds.note_file(run, look.hold, now=at.now)
    together = bool(has)
    if likenesses.note(run, facts, at.result.known, now=at.now, is_stored_later=together):
        run = Run.objects.with_root().get(pk=run.pk)
        facts = inspection.counted_anew(run, facts)
    _note_for_later_passes(at, begun, run, facts, change, has)
    return Looked(run, facts, change, begun.people)


def _note_for_later_passes(
    at: Pass, begun: BegunLook, run: Run, facts: Facts, change: str, has: dict[int, Beside]
) -> None:
    was_plain = bool(run.seen)
    unchanged.keep(run, begun.tree, facts, at.now)
    at.result.nas_was_better |= was_plain and facts.proof is not None and bool(facts.proof.findings)
    if change == "new" and (has[run.pk].shared if run.pk in has else True):
        shared_twins.sharing(run).doubt()  # it is news of the others too


def _unreachable(at: Pass, path: RunPath, finding: Finding) -> Looked | None:
    known = Run.objects.staged().with_root().filter(root=at.root, run_path=str(path)).first()
    if known is not None and not known.active_attempt:
        known.seen = ""
        return Looked(known, stored_facts.unreachable_facts(known, finding, at.now), "unchanged")
    if _lies_at(at.descriptor, path):
        at.result.problems.append((str(path), finding.reason, finding.detail))
    else:
        at.result.unchanged += 1  # a clear took it away
    return None


def _lies_at(descriptor: int, path: RunPath) -> bool:
    try:
        with opening.open_run(descriptor, str(path)):
            return True
    except opening.Unreachable as error:
        return error.finding.reason is not Reason.MISSING_DIRECTORY
