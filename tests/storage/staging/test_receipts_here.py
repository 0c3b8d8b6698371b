"""Receipts in a run's metadata: plain files, bounded, and nothing below them."""

import pytest

from cleanup.storage.staging import metadata, unexpected
from cleanup.storage.staging.run_tree import Entry, Scan

pytestmark = pytest.mark.one_engine

ID = "0f" * 16


def found(*entries: Entry) -> list[str]:
    scanned = Scan(1, None, 1, entries, ())
    return [f"{problem.reason} {problem.detail}" for problem in unexpected.problems(scanned, 10**18)]


def entry(name: str, size: int = 1, *, is_file: bool = True) -> Entry:
    return Entry(b".exlab-wizard/" + name.encode(), is_file, 2, 1, size, size, 0, 0)


def test_plain_files_in_the_folder_are_known() -> None:
    assert found(entry("receipts", is_file=False), entry(f"receipts/receipt-{ID}-1.json"), entry("receipts/x")) == []


@pytest.mark.parametrize(
    "other",
    [
        entry("receipts"),
        entry("receipts/below", is_file=False),
        entry("receipts/below/receipt.json"),
        entry("receipts2", is_file=False),
        entry("receipts/.nfs000000000000001"),
    ],
    ids=lambda one: one.path.decode(),
)
def test_anything_else_is_not(other: Entry) -> None:
    (problem,) = found(other)
    assert problem.split()[0] in ("unexpected_metadata", "writer_active")


def test_lists_have_a_limit_of_their_own_and_other_files_the_common_one() -> None:
    large = unexpected.MAX_METADATA_BYTES + 1
    listed = f"receipts/files-{ID}.jsonl"
    assert found(entry(listed, large)) == []
    assert found(entry("receipts/notes", large)) != []
    (problem,) = found(entry(listed, unexpected.MAX_RECEIPT_BYTES + 1))
    assert problem.startswith("unexpected_metadata") and "bytes of receipts" in problem
    assert metadata.grows_with_the_run(listed.encode())
