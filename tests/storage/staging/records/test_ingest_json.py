"""Reading `ingest.json`, and appending to it."""

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.ingest_json import (
    MAX_BYTES,
    MAX_NESTING,
    IngestError,
    parse,
    parse_instant,
    with_cleared,
)
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.one_engine(by="function")


RUN = RunPath("CONFOCAL_01", "PROJ-0042", "Runs", "Run_2026-04-17T14-32")
TEST_RUN = RunPath("CONFOCAL_01", "PROJ-0042", "TestRuns", "TestRun_2026-04-17T09-12")
GOOD: dict[str, Any] = {
    "schema_version": "1.1",
    "project_name": "Cortex Q3 Pilot",
    "equipment_id": "CONFOCAL_01",
    "run_kind": "experimental",
    "run_path": str(RUN),
    "transport": "smb_mount",
    "current_state": "complete",
    "history": [
        {"state": "staging", "at": "2026-04-17T14:32:00Z", "host": "labpc-04"},
        {"state": "complete", "at": "2026-04-17T16:09:00Z", "host": "labpc-04", "files_received": 7},
    ],
}


def record(**changes: Any) -> bytes:
    """The bytes of a good record with these keys changed; None removes a key."""
    changed = {**copy.deepcopy(GOOD), **changes}
    return json.dumps({key: value for key, value in changed.items() if value is not None}).encode()


def with_entry(**changes: Any) -> bytes:
    history = copy.deepcopy(GOOD["history"])
    history[-1] |= changes
    return record(history=history)


def reason_of(data: bytes, run: RunPath = RUN) -> str:
    with pytest.raises(IngestError) as refused:
        parse(data, run)
    assert refused.value.detail
    assert len(refused.value.detail) < 1000
    assert str(refused.value) == f"{refused.value.reason}: {refused.value.detail}"
    return refused.value.reason


class TestAccepts:
    def test_what_the_wizard_writes(self, lab: Lab) -> None:
        run = lab.run()
        read = parse((run / ".exlab-wizard/ingest.json").read_bytes(), RUN)
        assert read.schema_version == "1.1"
        assert read.current_state == "sync_verified"
        assert read.project_name == "Cortex Q3 Pilot"
        assert [entry.state for entry in read.history] == ["staging", "complete", "sync_queued", "sync_verified"]
        assert read.history[-1].at == datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)
        assert read.history[-1].at_text == "2026-04-17T16:15:43Z"
        assert {entry.host for entry in read.history} == {"labpc-04"}
        assert read.history[-1].extra == {"nas_path": RUN_PATH}
        assert read.history[1].extra.keys() == {"files_received", "bytes_received"}

    def test_a_test_run(self) -> None:
        data = record(run_path=str(TEST_RUN), run_kind="test")
        assert parse(data, TEST_RUN).current_state == "complete"

    def test_a_record_of_exactly_the_largest_size(self) -> None:
        assert parse(record().ljust(MAX_BYTES), RUN)
        assert reason_of(record().ljust(MAX_BYTES + 1)) == "ingest_unreadable"

    @pytest.mark.parametrize("version", ["1.0", "1.1", "1.27"])
    def test_newer_minor_versions(self, version: str) -> None:
        assert parse(record(schema_version=version), RUN).schema_version == version

    def test_missing_optional_keys(self) -> None:
        data = record(project_name=None, transport=None, history=[{"state": "staging"}], current_state="staging")
        read = parse(data, RUN)
        assert (read.project_name, read.history[0].host, read.history[0].at) == ("", "", None)

    def test_a_nas_path_that_points_anywhere(self) -> None:
        read = parse(with_entry(nas_path="//../../etc/passwd"), RUN)
        assert read.history[-1].extra["nas_path"] == "//../../etc/passwd"

    def test_an_unusable_instant_is_kept_as_text(self) -> None:
        entry = parse(with_entry(at="yesterday"), RUN).history[-1]
        assert (entry.at, entry.at_text) == (None, "yesterday")
        assert len(parse(with_entry(at="9" * 100_000), RUN).history[-1].at_text) == 64

    def test_an_illegal_history_which_is_not_its_question(self) -> None:
        history = [{"state": "sync_verified"}, {"state": "complete"}]
        assert len(parse(record(history=history), RUN).history) == 2


class TestRefusesUnreadable:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(record()[:-1], id="truncated by a byte"),
            pytest.param(record()[: len(record()) // 2], id="truncated in the middle"),
            pytest.param(record() + b"{}", id="two documents"),
            pytest.param(b"\0" * 512, id="zeros after a crash"),
            pytest.param(record().replace(b"Cortex", b"Cort\xffex"), id="not UTF-8"),
            pytest.param(record().decode().encode("utf-16"), id="UTF-16"),
            pytest.param(b"\xef\xbb\xbf" + record(), id="byte order mark"),
            pytest.param(record().replace(b"Cortex", b"Cort\0ex"), id="NUL"),
            pytest.param(record(project_name="Cort\0ex"), id="escaped NUL"),
            pytest.param(record().replace(b"Cortex", rb"\ud800"), id="lone surrogate"),
            pytest.param(with_entry(note="\udc80"), id="lone surrogate in an entry"),
            pytest.param(with_entry(**{"\udfff": 1}), id="lone surrogate in a key"),
            pytest.param(with_entry(files_received=float("nan")), id="NaN"),
            pytest.param(with_entry(files_received=float("inf")), id="Infinity"),
            pytest.param(with_entry(files_received=-float("inf")), id="minus Infinity"),
            pytest.param(with_entry(note=1).replace(b'"note": 1', b'"note": 1e999'), id="a number beyond all numbers"),
            pytest.param(with_entry(note=1).replace(b'"note": 1', b'"note": ' + b"9" * 5000), id="endless integer"),
            pytest.param(with_entry(note=1).replace(b'"note": 1', b'"note": ' + b"9" * 5000 + b".5"), id="long number"),
            pytest.param(record(more=1).replace(b"}]", b'}], "history": []'), id="key twice"),
            pytest.param(with_entry(note=1).replace(b'"note": 1', b'"state": "staging"'), id="key twice in an entry"),
            pytest.param(with_entry(note={"a": {"b": 1}}).replace(b'"b": 1', b'"b": 1, "b": 1'), id="key twice, deep"),
            pytest.param(b"[" * 100_000, id="nested without end"),
            pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested deeply"),
            pytest.param(
                record(more=1).replace(b'"more": 1', b'"more": ' + b'{"a":' * 90_000), id="objects in objects"
            ),
            pytest.param(b"[]", id="a list"),
            pytest.param(b"null", id="null"),
            pytest.param(b'"text"', id="a text"),
            pytest.param(record().replace(b"Cortex", b"Cor\ntex"), id="raw line break"),
        ],
    )
    def test_bytes(self, data: bytes) -> None:
        assert reason_of(data) == "ingest_unreadable"

    @pytest.mark.parametrize("depth", [1, 29, 30, 100, 400, 700, 900, 985, 990, 995, 1000])
    def test_how_deep_a_record_may_nest_does_not_depend_on_who_asks(self, depth: int) -> None:
        data = with_entry(note=1).replace(b'"note": 1', b'"note": ' + b"[" * depth + b"]" * depth)
        # The entry lies at the third level.
        expected = "accepted" if depth + 3 <= MAX_NESTING else "ingest_unreadable"
        assert accepted(data) == expected
        assert from_deep_down(lambda: accepted(data), 300) == expected

    @pytest.mark.parametrize("key", ["schema_version", "equipment_id", "run_kind", "run_path"])
    @pytest.mark.parametrize("value", [None, 1, 1.1, True, [], {}, ["a"], "x" * 300])
    def test_texts_of_other_types(self, key: str, value: object) -> None:
        assert reason_of(record(**{key: value})) == "ingest_unreadable"

    @pytest.mark.parametrize("value", [1, [], {}, False, "x" * 300])
    def test_optional_texts_of_other_types(self, value: object) -> None:
        assert reason_of(record(project_name=value)) == "ingest_unreadable"
        assert reason_of(with_entry(host=value)) == "ingest_unreadable"

    @pytest.mark.parametrize("history", [None, [], {}, "staging", 7, [1], [None], ["staging"], [[]], [{}]])
    def test_no_history(self, history: object) -> None:
        assert reason_of(record(history=history)) == "ingest_unreadable"

    @pytest.mark.parametrize("state", [None, "", "Complete", "done", "complete ", 1, [], {}, ["complete"]])
    def test_unknown_states(self, state: object) -> None:
        assert reason_of(record(current_state=state)) == "ingest_unreadable"
        assert reason_of(with_entry(state=state)) == "ingest_unreadable"


@pytest.mark.parametrize(
    "version", ["2.0", "0.9", "1", "1.", "1.1.0", "v1.1", " 1.1", "1.1\n", "11.1", "1.x", "", "1.٣", "\x1b[31m"]
)
def test_refuses_other_schemas(version: str) -> None:
    assert reason_of(record(schema_version=version)) == "ingest_schema_unsupported"


class TestRefusesWhatDisagrees:
    @pytest.mark.parametrize(
        "path",
        [
            "../CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32",
            "CONFOCAL_01/../CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32",
            "/CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32",
            "/",
            "",
            "C:\\staging\\Run",
            "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10",
            "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32/",
            "CONFOCAL_01/PROJ-0042/Runs/run_2026-04-17T14-32",
            "./CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32",
        ],
    )
    def test_a_run_path_that_is_not_where_it_lies(self, path: str) -> None:
        assert reason_of(record(run_path=path)) == "ingest_disagrees"

    def test_the_equipment_of_another_folder(self) -> None:
        assert reason_of(record(equipment_id="FLOW_01")) == "ingest_disagrees"

    @pytest.mark.parametrize("kind", ["test", "Experimental", ""])
    def test_the_kind_of_another_folder(self, kind: str) -> None:
        assert reason_of(record(run_kind=kind)) == "ingest_disagrees"

    def test_a_current_state_that_is_not_the_last(self) -> None:
        assert reason_of(record(current_state="staging")) == "ingest_disagrees"

    def test_the_detail_is_always_printable(self) -> None:
        with pytest.raises(IngestError) as refused:
            parse(record(run_path="a\x1b[2J\u202eb"), RUN)
        assert refused.value.detail.isprintable()


class TestInstants:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-04-17T16:15:43Z", datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)),
            ("2026-04-17T16:15:43", datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)),
            ("2026-04-17T16:15:43+00:00", datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)),
            ("2026-04-17T16:15:43+02:00", datetime(2026, 4, 17, 14, 15, 43, tzinfo=UTC)),
            ("2026-04-17T22:15:43-05:30", datetime(2026, 4, 18, 3, 45, 43, tzinfo=UTC)),
            ("2026-04-17T16:15:43.5Z", datetime(2026, 4, 17, 16, 15, 43, 500_000, tzinfo=UTC)),
            ("2026-04-17T16:15:43.123456789Z", datetime(2026, 4, 17, 16, 15, 43, 123_456, tzinfo=UTC)),
            ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ],
    )
    def test_usable(self, text: str, expected: datetime) -> None:
        instant = parse_instant(text)
        assert instant == expected
        assert instant.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            1_776_442_543,
            True,
            [],
            {},
            "",
            "yesterday",
            "2026-04-17",
            "2026-04-17 16:15:43Z",
            "2026-04-17T16:15Z",
            "2026-04-17T16:15:43z",
            "2026-04-17T16:15:43Z\n",
            " 2026-04-17T16:15:43Z",
            "2026-04-17T16:15:43+2:00",
            "2026-04-17T16:15:43+99:00",
            "2026-04-17T16:15:43 UTC",
            "2026-04-17T16:15:43.Z",
            "2026-04-17T16:15:43.1234567890Z",
            "2026-02-30T16:15:43Z",
            "2026-13-01T16:15:43Z",
            "2026-04-17T25:00:00Z",
            "2026-04-17T16:15:60Z",
            "20260417T161543Z",
            "2026-W16-5T16:15:43Z",
            "٢٠٢٦-04-17T16:15:43Z",
            "0000-01-01T00:00:00Z",
        ],
    )
    def test_unusable(self, value: object) -> None:
        assert parse_instant(value) is None

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
    def test_an_instant_that_not_every_zone_can_show_is_unusable(self, text: str) -> None:
        assert parse_instant(text) is None

    @given(st.text(max_size=40) | st.integers() | st.from_regex(ingest._INSTANT, fullmatch=True))
    def test_never_raises_and_every_zone_can_show_what_comes_out(self, value: object) -> None:
        instant = parse_instant(value)
        if instant is not None:
            for hours in (-14, 14):
                instant.astimezone(timezone(timedelta(hours=hours)))


class TestDigest:
    def test_the_same_entry_however_it_is_formatted(self) -> None:
        spaced = json.dumps(json.loads(record()), indent=4, sort_keys=True).encode()
        assert [entry.digest for entry in parse(spaced, RUN).history] == [
            entry.digest for entry in parse(record(), RUN).history
        ]

    @pytest.mark.parametrize("change", [{"at": "2026-04-17T16:09:01Z"}, {"host": "other"}, {"files_received": 8}])
    def test_another_entry_has_another_digest(self, change: dict[str, Any]) -> None:
        assert parse(with_entry(**change), RUN).history[-1].digest != parse(record(), RUN).history[-1].digest

    def test_it_is_that_of_an_entry_yet_to_be_written(self) -> None:
        data, entry = with_cleared(record(), at=datetime(2026, 6, 15, 8, tzinfo=UTC), host="labpc-04")
        assert parse(data, RUN).history[-1].digest == ingest.digest(entry)


class TestWithCleared:
    AT = datetime(2026, 6, 15, 10, 0, 59, 999_999, tzinfo=timezone(timedelta(hours=2)))

    def test_appends_one_entry_and_nothing_else(self) -> None:
        data, entry = with_cleared(record(), at=self.AT, host="labpc-04")
        assert entry == {"state": "cleared", "at": "2026-06-15T08:00:59Z", "host": "labpc-04"}
        after = json.loads(data)
        assert after.pop("current_state") == "cleared"
        assert after.pop("history") == [*GOOD["history"], entry]
        assert after == {key: GOOD[key] for key in after}
        assert parse(data, RUN).current_state == State.CLEARED

    def test_keeps_unknown_keys_and_the_order_of_all(self) -> None:
        before = {"zz": {"b": 1, "a": [None, True, "é"]}, **GOOD, "aa": "水"}
        before["history"] = [{"zeta": 1, **GOOD["history"][0]}, {**GOOD["history"][1], "alpha": {"y": 1, "x": 2}}]
        data, _entry = with_cleared(json.dumps(before).encode(), at=self.AT, host="h")
        after = json.loads(data)
        assert list(after) == list(before)
        assert [list(entry) for entry in after["history"][:-1]] == [list(entry) for entry in before["history"]]
        assert json.dumps(after["history"][1]["alpha"]) == '{"y": 1, "x": 2}'
        assert after["zz"] == before["zz"]
        assert after["aa"] == "水"

    def test_refuses_what_is_no_record(self) -> None:
        for data in (b"[]", b"", b"{", b'{"a": 1, "a": 1}'):
            with pytest.raises(IngestError):
                with_cleared(data, at=self.AT, host="h")


def accepted(data: bytes) -> str:
    try:
        parse(data, RUN)
    except IngestError as error:
        return error.reason
    return "accepted"


def from_deep_down(act: Any, frames: int) -> Any:
    return from_deep_down(act, frames - 1) if frames else act()


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd_records = st.fixed_dictionaries({}, optional={key: st.just(GOOD[key]) | any_json for key in GOOD})
odd_entries = st.lists(
    st.fixed_dictionaries(
        {}, optional={"state": st.sampled_from(State) | any_json, "at": any_json, "host": any_json, "note": any_json}
    ),
    max_size=3,
)


def only_ever_refuses(data: bytes) -> None:
    try:
        read = parse(data, RUN)
    except IngestError as error:
        assert Reason(error.reason)
        return
    assert read.history[-1].state == read.current_state
    written, entry = with_cleared(data, at=datetime(2026, 6, 15, tzinfo=UTC), host="h")
    assert parse(written, RUN).history == (*read.history, parse(written, RUN).history[-1])
    assert parse(written, RUN).history[-1].digest == ingest.digest(entry)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_only_ever_refused(data: bytes) -> None:
    assert accepted(data) in {"ingest_unreadable", "ingest_schema_unsupported", "ingest_disagrees"}


@given(any_json | odd_records)
def test_arbitrary_values_are_read_or_refused(value: Any) -> None:
    only_ever_refuses(json.dumps(value).encode())


@given(odd_entries, st.sampled_from(State))
def test_arbitrary_entries_are_read_or_refused(history: list[Any], state: State) -> None:
    only_ever_refuses(json.dumps({**GOOD, "current_state": state, "history": history}).encode())


@given(st.data())
def test_arbitrary_damage_is_read_or_refused(data: st.DataObject) -> None:
    whole = record()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    only_ever_refuses(whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:])
