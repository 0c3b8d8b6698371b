"""The fault matrix: an `ingest.json` as any program on the share could write it, before or after discovery."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleanup.rules.reasons import Reason
from tests.faults.cases import (
    ELSEWHERE,
    RECORD,
    SIBLING,
    TILE,
    Answer,
    Case,
    Stage,
    clears,
    discover,
    matrix,
    page,
)
from tests.faults.means import rename_aside
from tests.tools.lab import METADATA, RUN_PATH, read_ingest, read_sync_state, write_sync_state

pytestmark = pytest.mark.one_engine


Change = Callable[[dict[str, Any]], Any]


def edit(run: Path, change: Change) -> None:
    record = read_ingest(run)
    change(record)
    (run / RECORD).write_text(json.dumps(record))


def edited(change: Change) -> Callable[[Stage], None]:
    return lambda stage: edit(stage.path, change)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Stage], None]:
    def rewrite(stage: Stage) -> None:
        record = stage.path / RECORD
        record.write_bytes(change(record.read_bytes()))

    return rewrite


def with_states(*states: str) -> Change:
    def change(record: dict[str, Any]) -> None:
        known = {entry["state"]: entry for entry in record["history"]}
        record["history"] = [
            known.get(state, {"state": state, "at": "2026-04-17T16:15:43Z", "host": "x"}) for state in states
        ]
        record["current_state"] = states[-1]

    return change


def append_cleared(record: dict[str, Any]) -> None:
    record["history"].append({"state": "cleared", "at": "2026-04-20T10:00:00Z", "host": "x"})
    record["current_state"] = "cleared"


def unreadable(change: Callable[[bytes], bytes]) -> Case:
    return Case(Reason.INGEST_UNREADABLE, rewritten(change))


def disagrees(change: Change, **more: Any) -> Case:
    return Case(Reason.INGEST_DISAGREES, edited(change), **more)


def veto(change: Change) -> Case:
    """A case in which the record has changed; several reasons are right."""
    return Case(Reason.INGEST_UNREADABLE, edited(change))


def replace_by_a_link(stage: Stage) -> None:
    record = stage.path / RECORD
    record.rename(stage.outside / "ingest.json")
    record.symlink_to(stage.outside / "ingest.json")


def look_again(stage: Stage) -> Answer:
    problems = [problem for problem in discover(stage).problems if problem[0] == RUN_PATH]
    reason = problems[0][1] if problems else ""
    return Answer("reported" if problems else "taken", reason, page(stage))


def unchanged_in_the_database(stage: Stage) -> None:
    run = stage.run
    assert (run.state, run.cleared_at) == ("sync_verified", None)
    assert stage.scene.states() == ["staging", "complete", "sync_queued", "sync_verified"]
    assert not run.attempts.exists()


def reported(reason: Reason, change: Change) -> Case:
    return Case(reason, edited(change), "reported", unchanged_in_the_database, act=look_again)


def synced(change: Change) -> Callable[[Stage], None]:
    def edit_it(stage: Stage) -> None:
        record = read_sync_state(stage.path)
        change(record)
        write_sync_state(stage.path, record)

    return edit_it


def of_a_tile(**fields: Any) -> Change:
    """Change what is said of one file; None removes a key."""

    def change(record: dict[str, Any]) -> None:
        entry = record["files"][TILE]
        entry |= fields
        record["files"][TILE] = {key: value for key, value in entry.items() if value is not None}

    return change


def touch_a_tile(stage: Stage) -> None:
    before = (stage.path / TILE).stat().st_mtime_ns
    os.utime(stage.path / TILE, ns=(before, before - 1))


ALONE, BOTH = {"record": "sync_state"}, {"record": "both"}

BIDI = "Cortex \u202egnp.exe\u202c \u0007 \u200b"

CASES = {
    # the newer wizard's record, by itself
    "sync_state.json: as it is": clears(built=ALONE, swept=True),
    "sync_state.json: by names and sizes": clears(built=ALONE, level="size"),
    "sync_state.json: by the record": clears(built=ALONE, level="record"),
    "sync_state.json: gone": Case(
        Reason.INGEST_UNREADABLE, lambda s: (s.path / METADATA / "sync_state.json").unlink(), built=ALONE
    ),
    "sync_state.json: a file not listed": Case(
        Reason.NOT_SYNC_VERIFIED, synced(lambda record: record["files"].pop(TILE)), built=ALONE
    ),
    "sync_state.json: a file not verified": Case(
        Reason.NOT_SYNC_VERIFIED, synced(of_a_tile(verified_at=None)), built=ALONE
    ),
    "sync_state.json: a file not copied": Case(
        Reason.NOT_SYNC_VERIFIED, synced(of_a_tile(synced_signature=None)), built=ALONE
    ),
    "sync_state.json: a file with another time": Case(Reason.NOT_SYNC_VERIFIED, touch_a_tile, built=ALONE),
    "sync_state.json: a file with another time, by the record": Case(
        Reason.NOT_SYNC_VERIFIED, touch_a_tile, built=ALONE, level="record"
    ),
    "sync_state.json: a listed file is gone": Case(
        Reason.MISSING_FILE, lambda s: (s.path / TILE).unlink(), built=ALONE, level="record"
    ),
    "sync_state.json: a pin": Case(Reason.HELD, synced(of_a_tile(keep_local=True)), built=ALONE),
    "sync_state.json: cleared already": Case(
        Reason.ALREADY_CLEARED, synced(lambda record: record.update(cleared_at="2026-04-20T10:00:00Z")), built=ALONE
    ),
    "sync_state.json: another version": Case(
        Reason.INGEST_SCHEMA_UNSUPPORTED, synced(lambda record: record.update(schema_version="1.1")), built=ALONE
    ),
    "sync_state.json: an unknown key": Case(
        Reason.INGEST_SCHEMA_UNSUPPORTED, synced(of_a_tile(checksum="00")), built=ALONE
    ),
    "sync_state.json: a climbing path": Case(
        Reason.INGEST_UNREADABLE, synced(lambda record: record["files"].update({"../x": {}})), built=ALONE
    ),
    "sync_state.json: another creation.json": Case(
        Reason.IDENTITY_MISMATCH,
        lambda s: (s.path / METADATA / "creation.json").write_text('{"created_at": "another"}'),
        built=ALONE,
    ),
    "sync_state.json: other bytes on the NAS": Case(
        Reason.NAS_CHECKSUM_MISMATCH,
        lambda s: (s.twin / TILE).write_bytes(bytes((s.twin / TILE).stat().st_size)),
        built=ALONE,
    ),
    # and beside an `ingest.json`
    "both records: as they are": clears(built=BOTH),
    "both records: a file not verified": Case(
        Reason.SYNC_STATE_DIFFERS, synced(of_a_tile(verified_at=None)), built=BOTH, swept=True
    ),
    "both records: a file not listed": Case(
        Reason.SYNC_STATE_DIFFERS, synced(lambda record: record["files"].pop(TILE)), built=BOTH
    ),
    "both records: another size": Case(
        Reason.SYNC_STATE_DIFFERS, synced(of_a_tile(synced_signature=[1, 1])), built=BOTH, level="record"
    ),
    "both records: a pin": Case(Reason.HELD, synced(of_a_tile(keep_local=True)), built=BOTH),
    "both records: cleared already": Case(
        Reason.ALREADY_CLEARED, synced(lambda record: record.update(cleared_at="2026-04-20T10:00:00Z")), built=BOTH
    ),
    "both records: a negative size": Case(
        Reason.INGEST_UNREADABLE, synced(of_a_tile(synced_signature=[-1, 1])), built=BOTH
    ),
    "both records: no ingest.json any more": Case(
        Reason.INGEST_DISAGREES, lambda s: (s.path / RECORD).unlink(), built=BOTH
    ),
    # no record at all
    "gone": Case(Reason.INGEST_UNREADABLE, lambda s: (s.path / RECORD).unlink(), swept=True),
    "empty": unreadable(lambda content: b""),
    "truncated": unreadable(lambda content: content[:-20]),
    "a fifo": Case(Reason.INGEST_UNREADABLE, lambda s: (rename_aside(s.path / RECORD), os.mkfifo(s.path / RECORD))),
    "a folder": Case(Reason.INGEST_UNREADABLE, lambda s: ((s.path / RECORD).unlink(), (s.path / RECORD).mkdir())),
    "a link": Case(Reason.INGEST_UNREADABLE, replace_by_a_link),
    "a link to the twin's": Case(
        Reason.INGEST_UNREADABLE, lambda s: ((s.path / RECORD).unlink(), (s.path / RECORD).symlink_to(s.twin / RECORD))
    ),
    # no JSON that could be believed
    "huge": unreadable(lambda content: content[:-1] + b',"filler":"' + b"x" * (4 << 20) + b'"}'),
    "nested a hundred thousand times": unreadable(lambda content: b"[" * 100_000 + b"]" * 100_000),
    "nested forty times": unreadable(lambda content: content[:-1] + b',"x":' + b"[" * 40 + b"]" * 40 + b"}"),
    "not a number": unreadable(lambda content: content[:-1] + b',"x":NaN}'),
    "infinite": unreadable(lambda content: content[:-1] + b',"x":-Infinity}'),
    "beyond all bounds": unreadable(lambda content: content[:-1] + b',"x":1e999}'),
    "a key twice": unreadable(lambda content: content.replace(b"{", b'{"run_kind":"test",', 1)),
    "a state twice": unreadable(
        lambda content: content.replace(b'"state":"staging"', b'"state":"sync_verified","state":"staging"', 1)
    ),
    "not utf-8": unreadable(lambda content: content.replace(b"Cortex", b"C\xf8rtex")),
    "utf-16": unreadable(lambda content: content.decode().encode("utf-16")),
    "a byte order mark": unreadable(lambda content: b"\xef\xbb\xbf" + content),
    "a NUL": unreadable(lambda content: content.replace(b"Cortex", b"\\u0000")),
    "half a surrogate pair": unreadable(lambda content: content.replace(b"Cortex", b"\\ud800")),
    "a list": unreadable(lambda content: b"[" + content + b"]"),
    "two records": unreadable(lambda content: content + content),
    "no history": veto(lambda r: r.update(history=[])),
    "history is text": veto(lambda r: r.update(history="sync_verified")),
    "an entry is text": veto(lambda r: r["history"].__setitem__(0, "staging")),
    "an unknown state": veto(lambda r: r["history"][-1].update(state="verified")),
    "a state is a list": veto(lambda r: r["history"][-1].update(state=["sync_verified"])),
    "no current state": veto(lambda r: r.pop("current_state")),
    "no schema": veto(lambda r: r.pop("schema_version")),
    "schema is a number": veto(lambda r: r.update(schema_version=1.1)),
    "a name without end": veto(lambda r: r.update(project_name="x" * 100_000)),
    "schema of the future": Case(
        Reason.INGEST_SCHEMA_UNSUPPORTED, edited(lambda r: r.update(schema_version="2.0")), swept=True
    ),
    "schema in other digits": Case(
        Reason.INGEST_SCHEMA_UNSUPPORTED, edited(lambda r: r.update(schema_version="1.\u0661"))
    ),
    "schema of the past": Case(Reason.INGEST_SCHEMA_UNSUPPORTED, edited(lambda r: r.update(schema_version="0.9"))),
    # another run's, or of no run
    "another run's path": disagrees(lambda r: r.update(run_path=SIBLING), swept=True),
    "a climbing path": disagrees(lambda r: r.update(run_path=f"CONFOCAL_01/../{ELSEWHERE}")),
    "the way to the password file": disagrees(lambda r: r.update(run_path="../../../../etc/passwd")),
    "an absolute path": disagrees(lambda r: r.update(run_path=f"/{RUN_PATH}")),
    "a path with a slash at its end": disagrees(lambda r: r.update(run_path=f"{RUN_PATH}/")),
    "another instrument": disagrees(lambda r: r.update(equipment_id="FLOW_01")),
    "another kind": disagrees(lambda r: r.update(run_kind="test")),
    # another life
    "another state than its history": disagrees(lambda r: r.update(current_state="complete")),
    "an entry rewritten": disagrees(lambda r: r["history"][1].update(host="someone")),
    "a key added to an entry": disagrees(lambda r: r["history"][1].update(more=1)),
    "the verification dated back": disagrees(lambda r: r["history"][-1].update(at="2020-01-01T00:00:00Z")),
    "the last entry taken away": disagrees(with_states("staging", "complete", "sync_queued")),
    "only the first entry": disagrees(with_states("staging")),
    "a leap": disagrees(with_states("staging", "sync_verified")),
    "backwards": disagrees(with_states("staging", "complete", "sync_queued", "sync_verified", "complete")),
    "verified twice": disagrees(with_states("staging", "complete", "sync_queued", "sync_verified", "sync_verified")),
    "out of nowhere": disagrees(with_states("sync_verified")),
    "cleared by another program": Case(Reason.ALREADY_CLEARED, edited(append_cleared), swept=True),
    "cleared twice": disagrees(lambda r: (append_cleared(r), append_cleared(r))),
    "cleared in the middle": disagrees(with_states("staging", "complete", "sync_queued", "cleared", "sync_verified")),
    # discovery does not believe it either
    "discovery: another run's path": reported(Reason.INGEST_DISAGREES, lambda r: r.update(run_path=SIBLING)),
    "discovery: only the first entry": reported(Reason.INGEST_DISAGREES, with_states("staging")),
    "discovery: cleared twice": reported(Reason.INGEST_DISAGREES, lambda r: (append_cleared(r), append_cleared(r))),
    "discovery: schema of the future": reported(
        Reason.INGEST_SCHEMA_UNSUPPORTED, lambda r: r.update(schema_version="2.0")
    ),
    # never verified, or so it says
    "in staging": Case(Reason.NOT_SYNC_VERIFIED, built={"state": "staging"}, by_hand=True),
    "complete": Case(Reason.NOT_SYNC_VERIFIED, built={"state": "complete"}, by_hand=True),
    "queued": Case(Reason.NOT_SYNC_VERIFIED, built={"state": "sync_queued"}, by_hand=True),
    "verified by the record alone": Case(
        Reason.MANIFEST_MISSING,
        built={"state": "complete"},
        spoil=lambda run: edit(run, with_states("staging", "complete", "sync_queued", "sync_verified")),
    ),
    "the record names another place on the nas": Case(
        Reason.NAS_MISSING_FILE,
        lambda s: rename_aside(s.twin),
        spoil=lambda run: edit(run, lambda r: r["history"][-1].update(nas_path=str(run))),
    ),
    # what is no obstacle
    "spaces and another order of keys": clears(
        rewritten(lambda content: json.dumps(dict(reversed(json.loads(content).items())), indent=3).encode())
    ),
    "unknown keys": clears(edited(lambda r: r.update(x_vendor={"a": [1, 2.5, None, True]}))),
    "unseen and reversed characters": clears(spoil=lambda run: edit(run, lambda r: r.update(project_name=BIDI))),
    "three thousand keys": clears(edited(lambda r: r.update({f"k{number}": number for number in range(3000)}))),
}


RARE = {
    "truncated",
    "a link to the twin's",
    "nested forty times",
    "infinite",
    "beyond all bounds",
    "a state twice",
    "utf-16",
    "a byte order mark",
    "a list",
    "two records",
    "history is text",
    "an entry is text",
    "a state is a list",
    "no current state",
    "schema is a number",
    "schema in other digits",
    "schema of the past",
    "a climbing path",
    "a path with a slash at its end",
    "another kind",
    "a key added to an entry",
    "only the first entry",
    "out of nowhere",
    "cleared in the middle",
    "discovery: only the first entry",
    "discovery: schema of the future",
    "complete",
    "queued",
    "three thousand keys",
}


@matrix("ingest", CASES, rare=RARE)
def test_ingest(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
