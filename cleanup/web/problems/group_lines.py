"""Groups of problems as the pages show them: each member with its safe next step, and who has the group."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.urls import reverse

from cleanup.lab.people import permissions
from cleanup.models import AlertKind, AttemptKind, ClearAttempt, Orphan, OrphanKind, StagingRoot
from cleanup.monitoring import links, problems
from cleanup.monitoring.problems import OpenProblem, ProblemGroup, ProblemKey, ProblemKind, Urgency
from cleanup.rules.reasons import Reason
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphans import NextStep
from cleanup.text.values import sentence, visible

# A group with at most this many members is shown open.
OPEN_UP_TO = 3


@dataclass(frozen=True)
class ProblemLine:
    """One problem with the link to its safe next step, if any."""

    problem: OpenProblem
    label: str = ""
    address: str = ""


@dataclass(frozen=True)
class OrphanRow:
    orphan: Orphan
    step: NextStep
    may_look_again: bool
    may_mark: bool
    may_remove: bool = False
    being_removed: bool = False
    failed: ClearAttempt | None = None


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """A group with some members as `lines` or, of orphans, as `rows`."""

    group: ProblemGroup
    name: str
    root: StagingRoot | None = None
    lines: Sequence[ProblemLine] = ()
    rows: Sequence[OrphanRow] = ()
    nobodys: bool = True
    put_off: bool = False
    guide: str = ""

    @property
    def is_open(self) -> bool:
        return self.group.number <= OPEN_UP_TO

    @property
    def address(self) -> str:
        return reverse("problem-group", args=[self.group.key.slug])


@dataclass(frozen=True)
class Section:
    """The groups of one urgency, without breakers and orphans."""

    urgency: Urgency
    views: list[GroupView] = field(default_factory=list)

    @property
    def before_breakers(self) -> bool:
        return self.urgency < Urgency.FULL

    @property
    def before_orphans(self) -> bool:
        return Urgency.FULL <= self.urgency <= Urgency.BLOCKED

    @property
    def after_all(self) -> bool:
        return self.urgency > Urgency.BLOCKED

    @property
    def loud(self) -> bool:
        return self.urgency is Urgency.NOTHING_GOES

    @property
    def of_blocked_runs(self) -> bool:
        return self.urgency is Urgency.BLOCKED


def views(user: User, groups: Iterable[ProblemGroup], roots: Iterable[StagingRoot], now: datetime) -> list[GroupView]:
    """Some groups as a page shows them; `roots` are those that the user sees."""
    by_pk = {root.pk: root for root in roots}
    shown = list(groups)
    of_left = [problem.orphan for group in shown for problem in group.problems if problem.orphan is not None]
    rows = {row.orphan.pk: row for row in orphan_rows(user, of_left)}
    return [
        GroupView(
            group=group,
            name=name_of(group.key),
            root=by_pk.get(group.key.root),
            lines=[line(problem) for problem in group.problems if problem.orphan is None],
            rows=[rows[problem.orphan.pk] for problem in group.problems if problem.orphan is not None],
            nobodys=group.is_nobodys(now),
            put_off=group.is_put_off(now),
            guide=links.guide(group.key.guide),
        )
        for group in shown
    ]


def sections(found: Iterable[GroupView]) -> list[Section]:
    """Those that are neither breakers nor orphans, by urgency."""
    by_urgency: dict[Urgency, list[GroupView]] = {}
    for view in found:
        if view.group.key.kind not in (ProblemKind.BREAKER, ProblemKind.LEFT):
            by_urgency.setdefault(view.group.urgency, []).append(view)
    return [Section(urgency, by_urgency[urgency]) for urgency in Urgency if urgency in by_urgency]


def name_of(key: ProblemKey) -> str:
    """What is wrong, in one sentence."""
    match key.kind:
        case ProblemKind.UNWATCHED:
            return f"No watchdog runs on {visible(key.place)}: what stands still there is not reported."
        case ProblemKind.PAUSED:
            return "A batch of clears was paused and not resumed: its runs wait."
        case ProblemKind.CALLED_OFF:
            return "A batch of clears could not begin in time and was called off: nothing was cleared."
    return sentence(key.reason)


def line(problem: OpenProblem) -> ProblemLine:
    runs = reverse("run-list")
    if problem.run is not None:
        held = problem.kind == AlertKind.HOLD and problem.reason != Reason.REMINDER_DUE
        address = reverse("run-detail", args=[problem.run.pk])
        return ProblemLine(problem, "See the hold" if held else "See the run", f"{address}#holds" if held else address)
    if problem.batch is not None:
        return ProblemLine(problem, "Resume or stop it", reverse("batch", args=[problem.batch.pk]))
    if problem.reason == Reason.CLOCK_IN_DOUBT:
        return ProblemLine(problem, "See automatic clearing", reverse("sweep-list"))
    if problem.root is None:
        return ProblemLine(problem)
    of_root = {"root": problem.root.name}
    match problem.kind:
        case ProblemKind.RUNS:
            asked = {"verdict": "block", "reason": problem.reason, **of_root}
            return ProblemLine(problem, "See these runs", f"{runs}?{urlencode(asked)}")
        case AlertKind.DISK:
            return ProblemLine(problem, "Make room", links.make_room(problem.root))
        case AlertKind.PRESSURE:
            return ProblemLine(problem, "See what may go", f"{runs}?{urlencode({'verdict': 'go', **of_root})}")
        case AlertKind.SCHEDULE | ProblemKind.BREAKER:
            return ProblemLine(problem, "See its passes", f"{reverse('sweep-list')}?{urlencode(of_root)}")
    return ProblemLine(problem, "See its runs", f"{runs}?{urlencode(of_root)}")


def orphan_rows(user: User, found: Iterable[Orphan]) -> list[OrphanRow]:
    listed = list(found)
    removals = _latest_removals([orphan for orphan in listed if orphan.kind == OrphanKind.SHELL])
    return [_row(user, orphan, removals.get((orphan.run_id, orphan.path))) for orphan in listed]


def _latest_removals(listed: list[Orphan]) -> dict[tuple[int | None, str], ClearAttempt]:
    if not listed:
        return {}
    tried = ClearAttempt.objects.filter(kind=AttemptKind.SHELL, run__in=[orphan.run_id for orphan in listed])
    return {(one.run_id, str(one.prepared["path"])): one for one in tried.order_by("created_at").defer("decision")}


def _row(user: User, orphan: Orphan, removal: ClearAttempt | None) -> OrphanRow:
    step = orphans.next_step(orphan)
    return OrphanRow(
        orphan,
        step,
        may_look_again=problems.may(user, permissions.CLEAR, orphan),
        may_mark=step is NextStep.MARK_GONE and problems.may(user, permissions.CHANGE, orphan),
        may_remove=step is NextStep.REMOVE_SHELL and problems.may(user, permissions.CLEAR, orphan),
        being_removed=removal is not None and removal.is_active,
        failed=removal if removal is not None and removal.phase in ClearAttempt.FAILED else None,
    )
