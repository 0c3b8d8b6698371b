"""The runs of the list, and their sums."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Value
from django.shortcuts import get_object_or_404

from cleanup.lab import readiness
from cleanup.lab.people import permissions, record_names
from cleanup.models import (
    ClearAttempt,
    Instrument,
    LedgerEntry,
    Person,
    Project,
    ProvingRun,
    Requester,
    RetentionPolicy,
    Run,
    RunPerson,
    RunQuerySet,
    StagingRoot,
    Status,
)
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.facts import Finding
from cleanup.rules.liveness import AHEAD
from cleanup.rules.policies.policy import ScopedPolicy
from cleanup.rules.states import State
from cleanup.runs import run_people, run_status, search, shown_runs
from cleanup.runs.facts import stored_facts
from cleanup.runs.proving import proving_counts
from cleanup.text import proofs_ahead
from cleanup.text.values import visible
from cleanup.web.paging import or_nothing
from cleanup.web.runs.forms import BY_SCHEDULE, MINE, OF, UNREADABLE, WITHIN_A_DAY
from cleanup.web.runs.status_text import StatusText, stand

AnyUser = User | AnonymousUser

TONES = {tone.code: tone for tone in Status}
# Counts stop here, so that no page waits for a larger number.
COUNTED = 10_000
# At most this many keys or names go into one query.
FEW = 5_000
# At most this many words of a search count: each may add FEW names.
WORDS = 6
# Filters that no index serves in the order of a page.
SCANNED = {"q", "state", "kind", "reason", "opens"}
# At most this many names in a choice.
OFFERED = 1_000
# A run that may go within the hour is shown again at that time.
SOON = timedelta(hours=1)
A_DAY = timedelta(days=1)
A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class RunRow:
    """One run of the list; a `live` row polls until its attempt ends."""

    run: Run
    standing: StatusText
    attempt: ClearAttempt | None
    may_clear: bool = True
    may_hold: bool = True
    chosen: bool = False
    asks_in: int | None = None
    ahead: str = ""  # how far its proof is

    @property
    def live(self) -> bool:
        return self.attempt is not None and self.attempt.is_active


@dataclass(frozen=True)
class ToneTotal:
    """The sum of the runs of one tone; with `more` only the largest. Runs of unknown size have 0 bytes."""

    tone: Status
    words: str
    runs: int
    bytes: int
    more: bool


@dataclass(frozen=True)
class ChosenRuns:
    """Runs as chosen; `few`: by their keys, `many`: a search looks at each, `over`: they are more than `COUNTED`."""

    runs: RunQuerySet
    few: bool = False
    many: bool = False
    over: bool = False


@dataclass(frozen=True)
class Choices:
    """Names of instruments; (code, code with latest title) of projects; (folded name, name) of people in records."""

    equipment: list[str]
    projects: list[tuple[str, str]]
    people: list[tuple[str, str]]


def shown_or_404(user: AnyUser, pk: int) -> Run:
    """The run with all that a decision asks for; raises Http404 if the user may not see it."""
    run = get_object_or_404(shown_runs.asked(permissions.runs(user)), pk=pk)
    shown_runs.complete([run])
    return run


def page_run_or_404(user: AnyUser, pk: int) -> Run:
    """The same with what its own page asks besides; only for pages that change nothing."""
    run = get_object_or_404(shown_runs.for_its_page(permissions.runs(user)), pk=pk)
    shown_runs.complete_for_its_page(run)
    return run


def latest_attempt(run: Run) -> ClearAttempt | None:
    return ClearAttempt.objects.clears().filter(run=run).select_related("proof").order_by("-created_at").first()


def row_of(run: Run, now: datetime, user: AnyUser | None = None, picked: Collection[int] = ()) -> RunRow:
    policies, breakers = RetentionPolicy.objects.scoped(), run_status.open_breakers()
    ahead = proving_counts.rows_of([run.pk])
    row = _row(run, latest_attempt(run), policies, readiness.hindrances(), breakers, now, ahead)
    return row if user is None else _for(row, user, picked, now)


def rows_of(
    keys: Sequence[int],
    hindrances: tuple[Finding, ...],
    now: datetime,
    user: AnyUser,
    picked: Collection[int] = (),
    *,
    breakers: dict[int, Finding] | None = None,
) -> list[RunRow]:
    """The runs with these keys as rows, in their order, decided again, without runs that the user may not see."""
    policies = RetentionPolicy.objects.scoped()
    breakers = run_status.open_breakers() if breakers is None else breakers
    shown = shown_runs.read(permissions.runs(user).filter(pk__in=keys))
    found = {run.pk: run for run in shown.runs}
    stored_facts.look_up_failures(found.values())
    stored_facts.look_up_histories(found.values())
    ahead = proving_counts.rows_of(found)
    rows = (
        _row(found[key], shown.attempts.get(key), policies, hindrances, breakers, now, ahead)
        for key in keys
        if key in found
    )
    return [_for(row, user, picked, now) for row in rows]


def troubled_roots(hindrances: tuple[Finding, ...]) -> list[int]:
    """No run on these roots may be offered for a clear."""
    roots = StagingRoot.objects.all() if hindrances else StagingRoot.objects.exclude(problem="")
    return list(roots.values_list("pk", flat=True))


def opening_within_a_day(now: datetime) -> Q:
    return Q(tone=Status.WAIT, opens_at__lte=now + A_DAY)


def freed_lately(now: datetime, *, by: str) -> Exists:
    """The runs freed within a week, as the overview counts them."""
    entries = LedgerEntry.objects.freeing().filter(run=OuterRef("pk"), at__gt=now - A_WEEK, at__lte=now + AHEAD)
    scheduled = Q(requester=Requester.SCHEDULE)
    return Exists(entries.filter(scheduled if by == BY_SCHEDULE else ~scheduled).order_by())


def filtered(user: AnyUser, chosen: dict[str, str], now: datetime) -> RunQuerySet:
    """The chosen runs that the user sees: staged, or if asked for cleared."""
    return chosen_runs(user, chosen, now).runs


def chosen_runs(user: AnyUser, chosen: dict[str, str], now: datetime) -> ChosenRuns:
    """The same, with what is known of their number."""
    runs = permissions.runs(user)
    state = chosen.get("state")
    if "freed" in chosen:  # also runs that have changed since: the overview counts them too
        runs = runs.filter(freed_lately(now, by=chosen["freed"]))
    else:
        runs = runs.filter(state=State.CLEARED) if state == State.CLEARED else runs.here()
    if state == UNREADABLE:
        runs = runs.filter(state="")
    elif state and state != State.CLEARED:
        runs = runs.filter(state=state)
    if "root" in chosen:
        # By its key: with a join by name no database uses the indexes that begin with the tone.
        named = permissions.roots(user).filter(name=chosen["root"]).values_list("pk", flat=True).first()
        runs = runs.filter(root=named) if named is not None else runs.none()
    same = {"equipment": "equipment", "project": "project", "kind": "run_kind"}
    runs = runs.filter(**{column: chosen[name] for name, column in same.items() if name in chosen})
    if "whose" in chosen:
        runs = _of_person(user, runs, chosen)
    if reason := chosen.get("reason"):
        runs = runs.filter(reason=reason)
    if chosen.get("opens") == WITHIN_A_DAY:
        runs = runs.filter(opening_within_a_day(now))
    found = searched(runs, chosen.get("q", ""))
    if found.few:
        return found
    is_scanned = state != State.CLEARED and bool(chosen.keys() & SCANNED)
    return ChosenRuns(narrowed(found.runs), many=found.many, over=found.over) if is_scanned else found


def searched(runs: RunQuerySet, text: str) -> ChosenRuns:
    """Those of the runs with all words of a search in their path, in their project's title or among their people."""
    if not text:
        return ChosenRuns(runs)
    names = search.read_names()
    words = search.words_of(text, names, WORDS)
    found = search.find(runs, words, names, COUNTED)
    if found.keys is not None:
        return ChosenRuns(Run.objects.filter(pk__in=found.keys), few=True)
    for word in words:
        runs = runs.filter(word.anywhere)
    return ChosenRuns(runs, many=True, over=found.over)


def narrowed(runs: RunQuerySet) -> RunQuerySet:
    """The same runs by key, if they are few: a search without an index then runs only once."""
    keys = list(runs.order_by().values_list("pk", flat=True)[: FEW + 1])
    return Run.objects.filter(pk__in=keys) if len(keys) <= FEW else runs


def with_verdict(runs: RunQuerySet, verdict: str, troubled: Collection[int]) -> RunQuerySet:
    """The staged runs with one verdict; on a troubled root safe runs are blocked."""
    tone = TONES.get(verdict)
    if tone is None:
        return runs
    if tone is Status.GO and troubled:
        return runs.filter(tone=tone).exclude(root__in=troubled)
    if tone is Status.BLOCK and troubled:
        return runs.filter(Q(tone=tone) | Q(tone=Status.GO, root__in=troubled))
    return runs.filter(tone=tone)


def totals(runs: RunQuerySet, troubled: Collection[int], *, many: bool = False) -> list[ToneTotal]:
    """`many`: a search looks at each run, and adds the first ones up."""
    wanted = (
        (Status.GO, "Safe to clear now"),
        (Status.WAIT, "Waits"),
        (Status.BLOCK, "Blocked"),
        (Status.WORK, "Under way"),
    )
    # Few runs among many are searched once for all tones; of many runs each tone is found quickly.
    few = _sums_of_few(runs, troubled, many=many)
    if few is not None:
        cut = sum(number for number, _size in few.values()) > COUNTED
        return [ToneTotal(tone, words, *few.get(tone, (0, 0)), more=cut) for tone, words in wanted]
    return [_total(with_verdict(runs, tone.code, troubled), tone, words) for tone, words in wanted]


def counted(runs: RunQuerySet) -> int:
    """At most `COUNTED` + 1."""
    return runs.order_by().values("pk")[: COUNTED + 1].count()


def root_choices(user: AnyUser) -> list[str]:
    return list(permissions.roots(user).values_list("name", flat=True))


def choices(user: AnyUser) -> Choices:
    """What a user may choose by: one query. A user who does not see all sees only projects with staged runs."""
    seen = permissions.instruments(user).order_by().values("equipment").distinct().order_by("equipment")[:OFFERED]
    projects = Project.objects.order_by("code")
    if not permissions.places(user, permissions.VIEW).everywhere:
        projects = projects.filter(Exists(permissions.runs(user).here().filter(project=OuterRef("code")).order_by()))
    offered = Project.objects.filter(pk__in=projects.values("pk")[:OFFERED]).order_by()
    people = Person.objects.filter(pk__in=_people_seen(user).order_by("folded").values("pk")[:OFFERED]).order_by()
    names = Instrument.objects.filter(equipment__in=seen).order_by().values_list("equipment", Value(""), Value(0))
    of_others = (offered.values_list("code", "title", Value(1)), people.values_list("folded", "name", Value(2)))
    found = sorted(names.union(*of_others))
    return Choices(
        equipment=[name for name, _title, of in found if of == 0],
        projects=[(code, visible(f"{code} · {title}" if title else code)) for code, title, of in found if of == 1],
        people=[(folded, visible(name)) for folded, name, of in found if of == 2],
    )


def _people_seen(user: AnyUser) -> "QuerySet[Person]":
    # Who does not see all sees only people of staged runs.
    if permissions.places(user, permissions.VIEW).everywhere:
        return Person.objects.all()
    of_these = RunPerson.objects.filter(person=OuterRef("pk"), run__in=permissions.runs(user).here().values("pk"))
    return Person.objects.filter(Exists(of_these.order_by()))


def _of_person(user: AnyUser, runs: RunQuerySet, chosen: dict[str, str]) -> RunQuerySet:
    whose = chosen["whose"]
    if whose == MINE:
        people = record_names.persons_of(user) if isinstance(user, User) else []
    else:
        people = list(Person.objects.filter(folded=whose.removeprefix(OF)).values_list("pk", flat=True))
    return run_people.of_people(runs, people, here=chosen.get("state") != State.CLEARED and "freed" not in chosen)


def _row(
    run: Run,
    attempt: ClearAttempt | None,
    policies: Sequence[ScopedPolicy],
    hindrances: tuple[Finding, ...],
    breakers: dict[int, Finding],
    now: datetime,
    ahead: Mapping[int, ProvingRun],
) -> RunRow:
    breaker = breakers.get(run.root_id)
    judged = run_status.judge_now(run, attempt, policies, now, hindrances=hindrances, breaker=breaker)
    standing = stand(run, attempt, judged, now)
    words = proofs_ahead.of_run(ahead.get(run.pk), now) if standing.clears_now else ""
    return RunRow(run, standing, attempt, ahead=words)


def _for(row: RunRow, user: AnyUser, picked: Collection[int], now: datetime) -> RunRow:
    run, opens_at = row.run, row.run.judge_after
    soon = opens_at is not None and now < opens_at <= now + SOON
    return RunRow(
        run,
        row.standing,
        row.attempt,
        may_clear=user.has_perm(permissions.CLEAR) and permissions.may(user, permissions.CLEAR, run),
        may_hold=user.has_perm(permissions.HOLD) and permissions.may(user, permissions.HOLD, run),
        chosen=run.pk in picked,
        asks_in=ceil((opens_at - now).total_seconds()) + 1 if opens_at is not None and soon else None,
        ahead=row.ahead,
    )


def _sums_of_few(runs: RunQuerySet, troubled: Collection[int], *, many: bool) -> dict[Status, tuple[int, int]] | None:
    """(runs, bytes) by tone; None if more than `COUNTED`, or of `many` the first so many."""
    some = runs.annotate(size=or_nothing("bytes")).order_by().values_list("tone", "root", "size")[: COUNTED + 1]
    found = list(some)
    if len(found) > COUNTED and not many:
        return None
    sums: dict[Status, tuple[int, int]] = {}
    for code, root, size in found:
        tone = Status.BLOCK if code == Status.GO and root in troubled else Status(code)
        number, total = sums.get(tone, (0, 0))
        sums[tone] = number + 1, total + size
    return sums


def _total(runs: RunQuerySet, tone: Status, words: str) -> ToneTotal:
    # The largest first, as the index has them: of too many runs these hold the most bytes.
    largest = runs.annotate(size=or_nothing("bytes")).order_by("tone", "-size", "-pk")[: COUNTED + 1]
    sums = largest.aggregate(runs=Count("pk"), bytes=bytes_sum("size", default=0))
    return ToneTotal(tone, words, min(sums["runs"], COUNTED), int(sums["bytes"]), sums["runs"] > COUNTED)
