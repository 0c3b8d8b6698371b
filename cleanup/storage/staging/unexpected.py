"""Entries of `.exlab-wizard` that are not on the closed list, or are too large together."""

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import desktop_files, metadata, near_misses
from cleanup.storage.staging.run_tree import MANIFEST_PATH, SYNC_STATE_PATH, Entry, Scan

MAX_METADATA_BYTES = 4 * 1024 * 1024
MAX_RECEIPT_BYTES = 1 << 30


def problems(scanned: Scan, now_ns: int) -> list[Finding]:
    """Returns `unexpected_metadata` findings for unlisted entries or too many bytes.

    `writer_active` for traces of a crash in the last hour; `now_ns`: nanoseconds since 1970.
    """
    top = METADATA + b"/"
    problems = [problem for entry in _within(scanned) if (problem := _unexpected(entry, _name_within(entry), now_ns))]
    # Two files grow with the run; each has its own limit where it is read. Receipts grow too.
    apart = scanned.desktop | {MANIFEST_PATH, SYNC_STATE_PATH}
    sizes = {entry.path.removeprefix(top): entry.size for entry in scanned.metadata_files if entry.path not in apart}
    receipts = sum(size for name, size in sizes.items() if metadata.grows_with_the_run(name))
    if receipts > MAX_RECEIPT_BYTES:
        said = f"{receipts} bytes of receipts, {MAX_RECEIPT_BYTES} at the most"
        problems.append(Finding(Reason.UNEXPECTED_METADATA, said))
    counted = {name: size for name, size in sizes.items() if not metadata.grows_with_the_run(name)}
    size = sum(counted.values())
    if size > MAX_METADATA_BYTES:
        said = f"{size} bytes of metadata, {MAX_METADATA_BYTES} at the most{near_misses.of_size(counted)}"
        problems.append(Finding(Reason.UNEXPECTED_METADATA, said))
    return problems


def files(scanned: Scan, now_ns: int) -> list[Entry]:
    """Returns the files at the top of `.exlab-wizard` with unexpected names."""
    return [
        entry
        for entry in _within(scanned)
        if entry.is_file
        and b"/" not in _name_within(entry)
        and (problem := _unexpected(entry, _name_within(entry), now_ns))
        and problem.reason == "unexpected_metadata"
    ]


def _within(scanned: Scan) -> list[Entry]:
    return [entry for entry in scanned.totals.metadata if not _is_desktops(scanned, entry)]


def _name_within(entry: Entry) -> bytes:
    return entry.path.removeprefix(METADATA + b"/")


def _is_desktops(scanned: Scan, entry: Entry) -> bool:
    return entry.path in scanned.desktop if entry.is_file else desktop_files.is_folder(entry.path)


def _unexpected(entry: Entry, name: bytes, now_ns: int) -> Finding | None:
    if entry.is_file and metadata.is_known(name):
        return None
    if metadata.is_receipt(name, entry) and not desktop_files.is_open(name):
        return None
    if entry.is_file and desktop_files.is_open(name):
        return Finding(Reason.WRITER_ACTIVE, f"{show(entry.path)} was deleted and is still open")
    if not metadata.may_be_left(name, entry):
        return Finding(Reason.UNEXPECTED_METADATA, show(entry.path) + near_misses.of_metadata(name))
    # A time in the future comes from a wrong clock; the ctime is this host's own.
    written_ns = entry.mtime_ns if entry.mtime_ns <= now_ns else entry.ctime_ns
    if now_ns - written_ns < metadata.STALE_DRAFT_SECONDS * 1_000_000_000:
        return Finding(Reason.WRITER_ACTIVE, f"{show(entry.path)} was written less than an hour ago")
    return None
