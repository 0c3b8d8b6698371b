"""Reading and writing the newer wizard's record."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleanup.storage import handles, run_paths
from cleanup.storage.staging import records
from cleanup.storage.staging.records import SYNC_STATE, NoCopy, NotCleared, sync_state
from cleanup.storage.staging.records.ingest_json import IngestError
from cleanup.storage.staging.records.record_format import compare

pytestmark = pytest.mark.one_engine(by="function")


PATH = run_paths.parse_run_path("CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32")
AT = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
NOON = "2026-06-01T12:00:00Z"
ENTRY = {"synced_signature": [4096, 1_760_000_000_000_000_001], "verified_at": NOON}


@dataclass(frozen=True)
class Staged:
    path: bytes
    size: int = 4096
    mtime_ns: int = 1_760_000_000_000_000_001


def encode(files: dict[str, Any] | None = None, **more: Any) -> bytes:
    record = {"schema_version": "1.0", "files": {"a.tif": ENTRY} if files is None else files, **more}
    return json.dumps({key: value for key, value in record.items() if value is not Ellipsis}).encode()


def of_one_file(**fields: Any) -> bytes:
    entry = {key: value for key, value in {**ENTRY, **fields}.items() if value is not Ellipsis}
    return encode({"a.tif": entry})


def parse(data: bytes) -> records.Record:
    return SYNC_STATE.parse(data, PATH)


class TestAccepted:
    def test_a_record(self) -> None:
        record = parse(encode({"tiles/t 1.tif": {**ENTRY, "keep_local": True}, "b": {}}, cleared_at=NOON))
        assert record.history == ()
        assert record.cleared_at == datetime(2026, 6, 1, 12, tzinfo=UTC)
        assert record.kept_local == [b"tiles/t 1.tif"]
        assert record.listed[b"tiles/t 1.tif"].size == 4096
        assert record.listed[b"b"] == records.ListedFile(None, None, None, keep_local=False)

    @pytest.mark.parametrize(
        "data",
        [
            encode({}),
            encode(cleared_at=None),
            of_one_file(verified_at=None),
            of_one_file(synced_signature=None),
            of_one_file(synced_signature=[0, -5]),
            of_one_file(keep_local=False),
            of_one_file(verified_at="2026-06-01T12:00:00.123456+02:00"),
            encode({"größe µ/ä.tif": ENTRY}),
            encode({"a\nb": ENTRY}),
            encode({"...": ENTRY, ".hidden/x": ENTRY}),
        ],
    )
    def test_these_too(self, data: bytes) -> None:
        assert parse(data)

    def test_the_digest_is_of_the_files_alone(self) -> None:
        same = {parse(each).digest for each in (encode(), encode(cleared_at=NOON), of_one_file(keep_local=True))}
        assert len(same) == 1
        others = {
            parse(each).digest
            for each in (of_one_file(verified_at=None), of_one_file(synced_signature=[1, 2]), encode({"b": ENTRY}))
        }
        assert len(others - same) == 3

    def test_the_order_of_the_files_is_no_matter(self) -> None:
        pair = {"a": ENTRY, "b": ENTRY}
        assert parse(encode(pair)).digest == parse(encode(dict(reversed(pair.items())))).digest


UNREADABLE = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    encode()[:-3],
    encode(schema_version=...),
    encode(schema_version=1.0),
    encode(files=[]),
    b'{"schema_version": "1.0"}',
    b'{"schema_version": "1.0", "files": {}, "files": {}}',
    b'{"schema_version": "1.0", "files": {"a": {}, "a": {}}}',
    b'{"schema_version": "1.0", "files": {"a": {"synced_signature": [NaN, 1]}}}',
    b'{"schema_version": "1.0", "files": {"a": {"synced_signature": [1e999, 1]}}}',
    b'{"schema_version": "1.0", "files": {"\\ud800": {}}}',
    b'{"schema_version": "1.0", "files": {"\\u0000": {}}}',
    encode({"a": []}),
    encode({"a": None}),
    encode(cleared_at="yesterday"),
    encode(cleared_at=1_760_000_000),
    of_one_file(verified_at="2026-13-01T00:00:00Z"),
    of_one_file(verified_at="2026-06-01"),
    of_one_file(verified_at=True),
    of_one_file(verified_at="9999-12-31T23:59:59Z"),
    of_one_file(synced_signature=[-1, 1]),
    of_one_file(synced_signature=[1]),
    of_one_file(synced_signature=[1, 2, 3]),
    of_one_file(synced_signature=[1.0, 2]),
    of_one_file(synced_signature=[1, 2.5]),
    of_one_file(synced_signature=[True, 2]),
    of_one_file(synced_signature=["1", 2]),
    of_one_file(synced_signature=[1 << 63, 2]),
    of_one_file(synced_signature=[1, 1 << 63]),
    of_one_file(synced_signature={"size": 1}),
    of_one_file(keep_local=1),
    of_one_file(keep_local=None),
    *(
        encode({path: ENTRY})
        for path in (
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "\\x",
            "..\\x",
            "a\\..\\x",
            "C:\\x",
            "c:/x",
            "x" * 4001,
        )
    ),
]
UNSUPPORTED = [
    encode(schema_version="1.1"),
    encode(schema_version="2.0"),
    encode(schema_version="1"),
    encode(schema_version=""),
    encode(history=[]),
    encode(cleared_by="x"),
    of_one_file(checksum="00"),
    of_one_file(Keep_local=True),
]


class TestRefused:
    @pytest.mark.parametrize("data", UNREADABLE)
    def test_unreadable(self, data: bytes) -> None:
        with pytest.raises(IngestError) as error:
            parse(data)
        assert error.value.reason == "ingest_unreadable"

    @pytest.mark.parametrize("data", UNSUPPORTED)
    def test_of_another_version(self, data: bytes) -> None:
        with pytest.raises(IngestError) as error:
            parse(data)
        assert error.value.reason == "ingest_schema_unsupported"

    def test_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sync_state, "MAX_BYTES", len(encode()) + 63)
        with pytest.raises(IngestError, match="larger than"):
            parse(encode())

    def test_as_large_as_it_may_be_it_can_still_be_cleared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compact = json.dumps(json.loads(encode()), separators=(",", ":")).encode()
        monkeypatch.setattr(sync_state, "MAX_BYTES", len(compact) + 64)
        assert parse(SYNC_STATE.with_cleared(compact, at=AT, host="labpc")[0]).cleared_at == AT

    def test_nested_too_deeply(self) -> None:
        with pytest.raises(IngestError, match="nested too deeply"):
            parse(b'{"schema_version": "1.0", "files": {"a": {"verified_at": ' + b"[" * 40 + b"]" * 40 + b"}}}")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        _parse_or_refuse(data)

    @given(st.data())
    @settings(suppress_health_check=[HealthCheck.too_slow])
    def test_any_bytes_in_a_record(self, data: st.DataObject) -> None:
        good = encode({"a/b.tif": {**ENTRY, "keep_local": True}}, cleared_at=NOON)
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, len(good)))
        _parse_or_refuse(good[:start] + data.draw(st.binary(max_size=8)) + good[end:])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["synced_signature", "verified_at", "keep_local", "files", "..", "a"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        )
    )
    def test_any_values_in_a_record(self, value: Any) -> None:
        for where in (encode({"a": value}), encode(value if isinstance(value, dict) else {}), encode(cleared_at=value)):
            _parse_or_refuse(where)


def _parse_or_refuse(data: bytes) -> None:
    """Accepted, with no path that climbs and no negative number; or refused with one of two reasons."""
    try:
        record = parse(data)
    except IngestError as error:
        assert error.reason in ("ingest_unreadable", "ingest_schema_unsupported")
        assert error.detail.isprintable()
        return
    for path, file in record.listed.items():
        assert not path.startswith(b"/")
        assert not {b"", b".", b".."} & set(path.split(b"/"))
        assert file.size is None or file.size >= 0
    cleared, _entry = SYNC_STATE.with_cleared(data, at=AT, host="here")
    assert parse(cleared).digest == record.digest


_PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0\\:"), min_size=1, max_size=20).filter(
    lambda text: not {"", ".", ".."} & set(text.split("/"))
)
_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "synced_signature": st.tuples(st.integers(0, (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1)).map(list),
        "verified_at": st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(
            lambda at: at.replace(microsecond=0).isoformat() + "Z"
        ),
        "keep_local": st.booleans(),
    },
)


class TestCleared:
    @given(st.dictionaries(_PATHS, _ENTRIES, max_size=5))
    def test_everything_else_stays(self, files: dict[str, Any]) -> None:
        before = encode(files)
        data, entry = SYNC_STATE.with_cleared(before, at=AT, host="labpc")
        assert entry == {"state": "cleared", "at": "2026-06-15T08:00:00Z", "host": "labpc"}
        assert json.loads(data) == {**json.loads(before), "cleared_at": "2026-06-15T08:00:00Z"}
        assert parse(data).cleared_at == AT

    def test_a_broken_record_is_not_written(self) -> None:
        with pytest.raises(IngestError):
            SYNC_STATE.with_cleared(of_one_file(checksum="00"), at=AT, host="labpc")


class TestTold:
    def final(self) -> bytes:
        return SYNC_STATE.with_cleared(encode(), at=AT, host="labpc")[0]

    def told(self, there: bytes) -> bytes | None:
        return SYNC_STATE.told(there, PATH, SYNC_STATE.message(self.final(), PATH))

    def test_a_copy_gets_it_once(self) -> None:
        data = self.told(encode())
        assert data is not None
        assert json.loads(data)["cleared_at"] == "2026-06-15T08:00:00Z"
        assert self.told(data) is None

    def test_pins_there_stay(self) -> None:
        data = self.told(of_one_file(keep_local=True))
        assert data is not None
        assert json.loads(data)["files"]["a.tif"]["keep_local"] is True

    @pytest.mark.parametrize(
        "there",
        [
            encode({"b.tif": ENTRY}),
            of_one_file(synced_signature=[4096, 1]),
            of_one_file(verified_at=None),
            encode(cleared_at="2026-06-03T10:00:00Z"),
        ],
    )
    def test_another_record_gets_nothing(self, there: bytes) -> None:
        with pytest.raises(NoCopy):
            self.told(there)

    def test_a_record_that_is_not_cleared_has_nothing_to_say(self) -> None:
        with pytest.raises(NotCleared):
            SYNC_STATE.message(encode(), PATH)


class TestState:
    def of(self, data: bytes, *staged: Staged) -> str:
        found = records.Records(parse(data), (), "creation.x")
        return found.state(staged, found.compare(staged))

    @pytest.mark.parametrize(
        ("data", "staged", "state"),
        [
            (encode(), [Staged(b"a.tif")], "sync_verified"),
            (encode(), [], "sync_queued"),
            (encode(), [Staged(b"a.tif"), Staged(b"b.tif")], "sync_queued"),
            (encode(), [Staged(b"a.tif", size=4095)], "sync_queued"),
            (encode(), [Staged(b"a.tif", mtime_ns=1_760_000_000_000_000_000)], "sync_queued"),
            (of_one_file(verified_at=None), [Staged(b"a.tif")], "sync_queued"),
            (of_one_file(synced_signature=None), [Staged(b"a.tif")], "staging"),
            (encode({}), [Staged(b"a.tif")], "staging"),
            (encode({}), [], "staging"),
            (encode(cleared_at=NOON), [], "cleared"),
            (encode(cleared_at=NOON), [Staged(b"a.tif")], "sync_verified"),
        ],
    )
    def test_it_follows_from_the_files(self, data: bytes, staged: list[Staged], state: str) -> None:
        assert self.of(data, *staged) == state

    def test_what_may_be_hidden_is_not_cleared(self) -> None:
        found = records.Records(parse(encode(cleared_at=NOON)), (), "creation.x")
        assert found.state([], found.compare([]), whole=False) == "sync_queued"

    def test_metadata_is_no_data(self) -> None:
        other = {".exlab-wizard/creation.json": {}, ".exlab-hold": {}}
        assert self.of(encode({"a.tif": ENTRY, **other}), Staged(b"a.tif")) == "sync_verified"

    def test_differences_are_told_apart(self) -> None:
        listed = parse(encode({"a": ENTRY, "b": {**ENTRY, "verified_at": None}, "c": ENTRY, "d": ENTRY})).listed
        found = compare(listed, [Staged(b"a"), Staged(b"b"), Staged(b"c", size=1), Staged(b"e")])
        assert (found.unlisted, found.unverified, found.changed, found.missing) == ((b"e",), (b"b",), (b"c",), (b"d",))


class TestRead:
    def run(self, tmp_path: Path, **files: bytes) -> records.Records:
        metadata = tmp_path / ".exlab-wizard"
        metadata.mkdir(exist_ok=True)
        for name, data in files.items():
            (metadata / f"{name}.json").write_bytes(data)
        with handles.opened(os.open(tmp_path, handles.DIRECTORY)) as run:
            return records.read(run, PATH)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(IngestError, match="there is none"):
            self.run(tmp_path)

    def test_the_origin_is_what_creation_says_for_good(self, tmp_path: Path) -> None:
        first = self.run(tmp_path, sync_state=encode(), creation=b'{"a": 1, "sync_status": "pending"}')
        again = self.run(tmp_path, creation=b'{"sync_status": "synced", "a": 1, "validation_overrides": []}')
        other = self.run(tmp_path, creation=b'{"a": 2}')
        assert first.origin == again.origin != other.origin

    def test_without_creation_the_origin_is_unknown(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, sync_state=encode()).origin == "-"

    @pytest.mark.parametrize("creation", [b"", b"[]", b'{"a": NaN}'])
    def test_a_broken_creation_is_no_origin(self, tmp_path: Path, creation: bytes) -> None:
        with pytest.raises(IngestError, match=r"creation\.json"):
            self.run(tmp_path, sync_state=encode(), creation=creation)

    def test_a_broken_record_beside_another_is_told_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(IngestError, match=r"sync_state\.json: no valid JSON"):
            self.run(tmp_path, sync_state=b"{")

    @pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("x")])
    def test_what_is_no_file_is_not_read(self, tmp_path: Path, make: Callable[[Path], object]) -> None:
        (tmp_path / ".exlab-wizard").mkdir()
        make(tmp_path / ".exlab-wizard" / "sync_state.json")
        with pytest.raises(IngestError, match=r"sync_state\.json"):
            self.run(tmp_path)

    def test_every_format_is_known_by_its_names(self) -> None:
        for form in records.FORMATS:
            assert records.by_name(form.name) is form
            assert records.by_file(form.file.decode()) is form
            assert len(form.name) <= 16
