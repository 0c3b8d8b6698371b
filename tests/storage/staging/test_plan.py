"""The plan is read as it was written, or refused."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.storage.staging.plan import Plan, PlanError, decode, encode
from cleanup.storage.staging.run_tree import Entry

pytestmark = pytest.mark.one_engine(by="function")


ENTRY = Entry(
    path=b"tiles/t.tif", is_file=True, ino=7, nlink=2, size=4096, allocated=8192, mtime_ns=1 << 60, ctime_ns=-1
)
PLAN = Plan(attempt="ab12", run_path="E/P/Runs/Run_2026-04-17T14-32", ino=42, entries=(ENTRY,))

names = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)
numbers = st.integers(0, (1 << 64) - 1)
entries = st.builds(Entry, names, st.booleans(), numbers, numbers, numbers, numbers, st.integers(), st.integers())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(st.lists(entries, max_size=4), st.text(max_size=10))
def test_comes_back_as_it_was_with_any_names(some_entries: list[Entry], run_path: str) -> None:
    plan = replace(PLAN, run_path=run_path, entries=tuple(some_entries))
    data = encode(plan)
    assert decode(data, sha256(data)) == plan
    assert data.count(b"\n") == 1 + len(some_entries)


def test_the_same_plan_has_the_same_bytes() -> None:
    assert encode(PLAN) == encode(replace(PLAN))


@pytest.mark.parametrize("changed", [b"", encode(PLAN)[:-1], encode(PLAN) + b"\n", encode(replace(PLAN, ino=43))])
def test_other_bytes_are_refused(changed: bytes) -> None:
    with pytest.raises(PlanError, match="not the one that the attempt names"):
        decode(changed, sha256(encode(PLAN)))


def test_another_format_is_refused() -> None:
    data = json.dumps({"format": 2, "attempt": "ab12"}).encode()
    with pytest.raises(PlanError, match="plan format 2"):
        decode(data, sha256(data))
