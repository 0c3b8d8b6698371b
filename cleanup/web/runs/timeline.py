"""The life of one run."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from cleanup.lab import days
from cleanup.models import (
    ClearAttempt,
    Hold,
    HoldSource,
    IngestEvent,
    LedgerEntry,
    LedgerKind,
    Phase,
    Requester,
    Run,
    SweepKind,
)
from cleanup.rules.states import State
from cleanup.storage.staging import records
from cleanup.text.sweeps import action, because, tone
from cleanup.text.values import count, exact_bytes, files, given_back, in_units, sentence

# A page tells at most this many of each kind; the admin has all.
LONGEST = 200
# A longer life shows only the latest and the first moments, unless all are asked for.
WHOLE_UP_TO = 18
LATEST, FIRST = 10, 5
# Only the size of its file bounds what a record adds to its entries.
EXTRAS = 10
_CHARACTERS = 300
# Attempts that ended without any effect.
_NOTHING_DONE = (Phase.REFUSED, Phase.ABORTED)
# From the tones of a pass's action to those of verdicts.
_TONES = {"pass": "go", "wait": "wait", "block": "block"}


Said = tuple[str, str | datetime]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One event; without a usable instant `at` is None and `at_text` its text. `said`: (label, text or instant)."""

    source: str
    title: str
    at: datetime | None
    at_text: str = ""
    tone: str = ""
    who: str = ""
    host: str = ""
    said: tuple[Said, ...] = ()
    batch: str = ""


@dataclass(frozen=True)
class Life:
    """The latest first; `hidden` counts those between `latest` and `first`; `cut`: more happened."""

    latest: list[Moment]
    first: list[Moment]
    hidden: int
    cut: bool

    @property
    def moments(self) -> int:
        return len(self.latest) + self.hidden + len(self.first)

    @property
    def is_long(self) -> bool:
        return self.moments > WHOLE_UP_TO


def life_of(
    run: Run,
    now: datetime,
    *,
    whole: bool,
    attempts: list[ClearAttempt] | None = None,
    entries: list[LedgerEntry] | None = None,
) -> Life:
    """`run` has its root and holds; a bounded number of rows in at most five queries.

    `attempts`, `entries`: all clears and all rows of the ledger, the latest first, where they were read already.
    """
    tried, said = _tried(run) if attempts is None else attempts, _said(run) if entries is None else _own(entries)
    holds = sorted(run.holds.all(), key=lambda hold: hold.created_at, reverse=True)
    dated = [
        *_of_discovery(run),
        *_of_record(run, run.events.order_by("position")[:LONGEST]),
        *_of_sights(run),
        *_dated(_of_attempts(tried[:LONGEST])),
        *_dated(_of_holds(holds[:LONGEST], now)),
        *_dated(_of_entries(said[:LONGEST])),
        *_dated(_of_passes(run)),
    ]
    moments = [moment for _at, moment in sorted(dated, key=lambda pair: pair[0])][::-1]
    cut = max(len(tried), len(holds), len(said)) > LONGEST
    if whole or len(moments) <= WHOLE_UP_TO:
        return Life(moments, [], 0, cut)
    return Life(moments[:LATEST], moments[-FIRST:], len(moments) - LATEST - FIRST, cut)


def _tried(run: Run) -> list[ClearAttempt]:
    attempts = run.attempts.clears().select_related("proof").defer("decision", "prepared").order_by("-created_at")
    return list(attempts[: LONGEST + 1])


def _said(run: Run) -> list[LedgerEntry]:
    entries = LedgerEntry.objects.filter(Q(attempt=None) | Q(kind=LedgerKind.SHELL), run=run).order_by("-at", "-pk")
    return list(entries[: LONGEST + 1])


def _own(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Those that no clear tells."""
    return [entry for entry in entries if entry.attempt_id is None or entry.kind == LedgerKind.SHELL]


def _dated(moments: Iterable[Moment]) -> Iterator[tuple[datetime, Moment]]:
    return ((moment.at, moment) for moment in moments if moment.at is not None)


def _of_discovery(run: Run) -> Iterator[tuple[datetime, Moment]]:
    title = "Seen on the staging disk again" if run.returned_at else "First seen on the staging disk"
    yield run.first_seen_at, Moment(source="discovery", title=title, at=run.first_seen_at, host=run.root.host)


def _of_record(run: Run, events: Iterable[IngestEvent]) -> Iterator[tuple[datetime, Moment]]:
    """The entries of the record; one without an instant stands after the one before it."""
    place = None
    for event in events:
        place = event.at or place or event.first_seen_at
        said: list[Said] = [_extra(name, value) for name, value in list(event.extra.items())[:EXTRAS]]
        if event.at is None:
            said.append(("first seen here", event.first_seen_at))
        yield (
            place,
            Moment(
                source="record",
                title=_named(event, run.cleared_by),
                at=event.at,
                at_text=event.at_text or "none given",
                tone="" if event.at else "block",
                host=event.host,
                said=tuple(said),
            ),
        )


def _named(event: IngestEvent, cleared_by: str) -> str:
    if event.state == State.CLEARED and cleared_by:
        return f"Cleared by the {cleared_by}"
    return str(event.get_state_display())


def _of_sights(run: Run) -> Iterator[tuple[datetime, Moment]]:
    if run.record_format == records.INGEST.name and not run.cleared_by:
        return
    for sight in run.record_sights.order_by("-first_seen_at", "-pk")[:LONGEST]:
        said = (("latest verification", sight.verified_at),) if sight.verified_at else ()
        title = "The record lists the files so"
        yield sight.first_seen_at, Moment(source="record", title=title, at=sight.first_seen_at, said=said)
    if run.cleared_by and run.cleared_at and not run.events.filter(state=State.CLEARED).exists():
        title = f"Cleared by the {run.cleared_by}"
        yield run.cleared_at, Moment(source="record", title=title, at=run.cleared_at, tone="go")


def _extra(name: str, value: Any) -> tuple[str, str]:  # noqa: ANN401
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and name.startswith("bytes"):
        text = f"{in_units(value)} ({exact_bytes(value)})"
    elif whole:
        text = count(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _cut(name), _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"


def _of_attempts(attempts: Iterable[ClearAttempt]) -> Iterator[Moment]:
    proofs = set()
    for attempt in attempts:
        if attempt.phase not in _NOTHING_DONE:
            yield _asked(attempt)
        proof = attempt.proof
        if proof is not None and proof.pk not in proofs:
            proofs.add(proof.pk)
            covers = f"{files(proof.files)}, {in_units(proof.bytes)} ({exact_bytes(proof.bytes)}, logical)"
            title = f"Proven by {proof.kind}"
            yield Moment(source="proof", title=title, at=proof.at, tone="go", host=proof.host, said=(("", covers),))
        if attempt.phase not in (Phase.QUEUED, Phase.INTENT):
            yield _ended(attempt)
        if attempt.told_at is not None:
            title = "The history on the NAS says cleared, too"
            yield Moment(source="clear", title=title, at=attempt.told_at, host=attempt.host)


def _asked(attempt: ClearAttempt) -> Moment:
    by_person = attempt.requester == Requester.OPERATOR
    return Moment(
        source="clear",
        title="Clear asked for" if by_person else "Clear begun by the schedule",
        at=attempt.created_at,
        who=attempt.actor,
        host=attempt.host,
        said=tuple(_wish(attempt)),
        batch=_batch(attempt),
    )


def _wish(attempt: ClearAttempt) -> list[tuple[str, str]]:
    said = [*_typed(attempt.typed_by), *([("reason given", attempt.note)] if attempt.note else [])]
    return [*said, ("", because(attempt.cause))] if attempt.cause else said


def _typed(account: str) -> list[tuple[str, str]]:
    return [("typed by", account)] if account else []


def _batch(attempt: ClearAttempt) -> str:
    return str(attempt.batch_id) if attempt.batch_id else ""


def _ended(attempt: ClearAttempt) -> Moment:
    said: list[Said] = [("", sentence(attempt.reason))] if attempt.reason else []
    if attempt.detail:
        said.append(("", attempt.detail))
    if attempt.phase in _NOTHING_DONE:
        said += [("asked for", attempt.created_at), *_wish(attempt)]
    titles = {
        Phase.COMMITTED: ("Removal begun", "work"),
        Phase.DONE: ("Cleared, removal incomplete", "block") if attempt.incomplete else ("Cleared", "go"),
        Phase.REFUSED: ("Clear refused: nothing was removed", "block"),
        Phase.ABORTED: ("Clear given up: nothing was removed", "block"),
        Phase.CONFLICT: ("Not cleared: needs a look", "block"),
    }
    title, tone_ = titles[Phase(attempt.phase)]
    if attempt.phase == Phase.DONE:
        freed = f"{files(attempt.freed_files)}, {in_units(attempt.freed_bytes)} logical"
        said.insert(0, ("freed", f"{freed}, {in_units(attempt.freed_allocated_bytes)} allocated"))
        if measured := given_back(attempt):
            said.insert(1, ("on the disk", measured))
    return Moment(
        source="clear",
        title=title,
        at=attempt.phase_at,
        tone=tone_,
        who=attempt.actor,
        host=attempt.host,
        said=tuple(said),
        batch=_batch(attempt) if attempt.phase in _NOTHING_DONE else "",
    )


def _of_holds(holds: Iterable[Hold], now: datetime) -> Iterator[Moment]:
    for hold in holds:
        by_file = hold.source == HoldSource.FILE
        said = [*_typed(hold.typed_by), *([("reason", hold.reason)] if hold.reason else [])]
        if hold.until:
            said.append(("until", days.say_end(hold.until, now)))
        title = "Held by the file .exlab-hold" if by_file else "Held"
        yield Moment(source="hold", title=title, at=hold.created_at, tone="wait", who=hold.owner, said=tuple(said))
        of_whom = (("hold of", hold.owner),)
        if hold.released_at is not None:
            title = "The file .exlab-hold was taken away" if by_file else "Hold released"
            words = (*of_whom, *_typed(hold.released_typed_by))
            yield Moment(source="hold", title=title, at=hold.released_at, who=hold.released_by, said=words)
        elif hold.until is not None and hold.until <= now:
            yield Moment(source="hold", title="Hold over", at=hold.until, said=of_whom)


def _of_entries(entries: Iterable[LedgerEntry]) -> Iterator[Moment]:
    """The rows of the ledger that no attempt tells."""
    titles = {
        LedgerKind.REREGISTERED: "Registered again",
        LedgerKind.MARKED_GONE: "Marked as gone",
        LedgerKind.SET_ASIDE: "A file was set aside",
        LedgerKind.PUT_BACK: "A file was put back",
        LedgerKind.ACCEPTED: "Bytes accepted by an admin, or that withdrawn",
    }
    for entry in entries:
        said = [("", sentence(entry.reason))] if entry.reason else []
        if entry.detail:
            said.append(("", entry.detail))
        said += _typed(entry.typed_by)
        yield Moment(
            source="ledger",
            title=_title_of_shell(entry) or titles.get(LedgerKind(entry.kind), entry.get_kind_display()),
            at=entry.at,
            who=entry.actor,
            host=entry.host,
            said=tuple(said),
        )


def _title_of_shell(entry: LedgerEntry) -> str:
    if entry.kind != LedgerKind.SHELL:
        return ""
    return f"An empty folder of the data wizard was {'left' if entry.reason else 'removed'}"


def _of_passes(run: Run) -> Iterator[Moment]:
    passes = run.swept.filter(kind=SweepKind.TIMED).select_related("first", "last").defer("gates")
    said = passes.order_by("-last_id", "-pk").first()
    if said is None:
        return
    words: list[Said] = [("", because(said.reason))] if said.reason else []
    if said.detail:
        words.append(("", said.detail))
    if said.first_id != said.last_id:
        words.append(("said so since", said.first.started_at))
    yield Moment(
        source="automatic clearing",
        title=f"The timed pass: {action(said.action)}",
        at=said.last.started_at,
        tone=_TONES.get(tone(said.action), ""),
        host=said.last.host,
        said=tuple(words),
    )
