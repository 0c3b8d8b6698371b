"""The clears as a table: one row for each run that was removed, or of which a part was."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.db.models import BooleanField, Exists, F, OuterRef

from cleanup.ledger import chain, stored_text
from cleanup.ledger.dimensions import trigger_of
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import LedgerEntry
from cleanup.rules.policies.fields import TOLD_FIELDS
from cleanup.rules.reasons import Reason

NAME = "clears"
_AT_ONCE = 2_000  # rows of the ledger
_POLICY = (
    Column("mode", "mode"),
    Column("mode_version", "policy version that decided the mode", Kind.COUNT),
    Column("mode_scope", "scope of that version"),
    Column("retain_seconds", "time that runs are kept", Kind.SECONDS),
    Column("retain_version", "policy version that decided the time", Kind.COUNT),
    Column("retain_scope", "scope of that version"),
    Column("proof_asked", "proof asked for"),
    Column("proof_version", "policy version that decided the proof", Kind.COUNT),
    Column("proof_scope", "scope of that version"),
)
COLUMNS = (
    Column("attempt_id", "attempt"),
    Column("run_id", "run", Kind.COUNT),
    Column("root_name", "staging root"),
    Column("run_path", "run path"),
    Column("equipment", "instrument"),
    Column("project", "project"),
    Column("run_kind", "kind"),
    Column("person", "asked for by"),
    Column("typed_by", "typed by the account"),
    Column("trigger", "begun by"),
    Column("cause", "why the schedule took it"),
    Column("note", "reason given"),
    Column("policy_version", "newest policy version then", Kind.COUNT),
    *_POLICY,
    Column("proof_level", "proof"),
    Column("verified_at", "verified", Kind.INSTANT),
    Column("asked_at", "asked for", Kind.INSTANT),
    Column("cleared_at", "cleared", Kind.INSTANT),
    Column("files", "files", Kind.COUNT),
    Column("bytes", "logical bytes", Kind.BYTES),
    Column("allocated_bytes", "allocated bytes", Kind.BYTES),
    Column("measured_bytes", "measured bytes", Kind.BYTES),
    Column("outcome", "outcome"),
    Column("reason", "reason code"),
    Column("copy_path", "copy on the NAS"),
    Column("host", "host"),
    Column("ledger_id", "row of the ledger", Kind.COUNT),
)
# What is read of each row, and of its attempt.
_SUMS = ("files", "bytes", "allocated_bytes", "measured_bytes")
_OF_ROW = (
    *("pk", "at", "run_id", "root_name", "run_path", "equipment", "project", "run_kind", "actor"),
    *("typed_by", "requester", "cause", "policy_version", "proof_level", "host"),
)
_OF_ATTEMPT = {
    "note": F("attempt__note"),
    "asked_at": F("attempt__created_at"),
    "outcome_reason": F("attempt__reason"),
    "twin_path": F("attempt__twin_path"),
    "verified_at": F("run__verified_at"),
    "attempt_text": stored_text.column("attempt_id"),
    "decided_text": stored_text.column("decided_by"),
}


def table(chosen: EntryFilter) -> Table:
    """The clears whose first row that freed something lies within a filter, in the ledger's order."""
    return Table(NAME, "Clears", COLUMNS, (_as_told(clear) for clear in clears(chosen)))


def clears(chosen: EntryFilter) -> Iterator[dict[str, Any]]:
    """The same as records of what was read, with the sums over all rows of each clear."""
    first, last = chosen.bounds()
    same = LedgerEntry.objects.freeing().filter(attempt=OuterRef("attempt"))
    entries = chosen.of_all_times().freeing().filter(~Exists(same.filter(pk__lt=OuterRef("pk")).order_by()))
    goes_on = Exists(same.filter(pk__gt=OuterRef("pk")).order_by(), output_field=BooleanField())
    rows = entries.order_by("pk").annotate(**_OF_ATTEMPT, goes_on=goes_on)
    values = rows.values(*_OF_ROW, *_SUMS, *_OF_ATTEMPT, "goes_on")
    position = first - 1
    while some := list(values.filter(pk__gt=position, pk__lte=last)[:_AT_ONCE]):
        position = some[-1]["pk"]
        within = [clear for clear in some if chosen.includes(clear["at"])]
        _add_later_rows([clear for clear in within if clear["goes_on"]])
        yield from within


def _add_later_rows(clears: list[dict[str, Any]]) -> None:
    """What was left is often removed later, in a row of its own."""
    if not clears:
        return
    known = {stored_text.key(clear["attempt_text"]): clear for clear in clears}
    later = (
        LedgerEntry.objects.freeing().filter(attempt__in=list(known)).order_by("pk").values("pk", "attempt_id", *_SUMS)
    )
    for row in later:
        clear = known[row["attempt_id"].hex]
        if row["pk"] == clear["pk"]:
            continue
        for name in _SUMS:
            # Measured bytes are unknown where one of the rows could not measure.
            clear[name] = None if None in (clear[name], row[name]) else clear[name] + row[name]


def _as_told(clear: dict[str, Any]) -> tuple[Any, ...]:
    names = ("root_name", "run_path", "equipment", "project", "run_kind", "actor", "typed_by")
    incomplete = clear["outcome_reason"] == Reason.REMOVAL_INCOMPLETE
    return (
        stored_text.key(clear["attempt_text"]),
        clear["run_id"],
        *(clear[name] for name in names),
        trigger_of(clear["requester"], clear["typed_by"], clear["cause"]).value,
        clear["cause"],
        clear["note"],
        clear["policy_version"],
        *_policy(clear["decided_text"]),
        clear["proof_level"],
        clear["verified_at"],
        clear["asked_at"],
        clear["at"],
        *(clear[name] for name in _SUMS),
        "partial" if incomplete else "complete",
        clear["outcome_reason"],
        clear["twin_path"],
        clear["host"],
        clear["pk"],
    )


@lru_cache(maxsize=4096)  # few policies decide very many clears
def _policy(decided: str) -> tuple[Any, ...]:
    """Value, version and scope of each field; a default has neither version nor scope, an older row knows nothing."""
    by, found = stored_text.values(decided), []
    for name in TOLD_FIELDS:
        source = by.get(name) or {}
        value, scope = source.get("value"), source.get("scope")
        if name == "retain_hours" and value is not None:
            value = float(value) * 3600
        named = None if scope is None else {key: value for key, value in scope.items() if value}
        found += [value, source.get("version"), None if named is None else scope_text(named)]
    return tuple(found)


def scope_text(scope: dict[str, str]) -> str:
    """`{"equipment":"FLOW_01"}`; `{}` is the whole lab."""
    return chain.canonical(scope).decode()
