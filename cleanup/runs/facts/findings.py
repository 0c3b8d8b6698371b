"""The disk's evidence against a clear: a run's tree beside its record and manifest."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.roots.opening import OpenRun
from cleanup.models import Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State, first_illegal_step
from cleanup.runs.moved_or_gone import returned
from cleanup.runs.proofs.proofs import NAMES_SHOWN, name_some
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import (
    desktop_files,
    hold_file,
    manifest,
    near_misses,
    records,
    run_tree,
    unexpected,
    writers,
)
from cleanup.storage.staging.records import Records
from cleanup.storage.staging.records import ingest_json as ingest


def read_records(opened: OpenRun, *places: RunPath) -> Records:
    """Return the run's records if they name one of `places`. Raises IngestError."""
    found = records.read(opened.run, *places)
    history = found.main.history
    illegal = first_illegal_step([State(entry.state) for entry in history])
    if illegal is not None:
        before = history[illegal - 1].state if illegal else "the beginning"
        detail = f"history entry {illegal + 1} says {history[illegal].state} after {before}"
        raise ingest.IngestError("ingest_disagrees", detail)
    return found


def newer_files(
    record: Records | None, verified: datetime | None, data_files: Iterable[run_tree.Entry]
) -> list[run_tree.Entry]:
    """Return the data files newer than the verification; none for a record without a history."""
    if verified is None or (record is not None and not record.main.history):
        return []
    return [entry for entry in data_files if entry.mtime_ns > nanoseconds(verified)]


def cleared_by_the_wizard(record: Records | None, data_files: Sequence[run_tree.Entry]) -> tuple[Finding, ...]:
    """Return a finding for data of a run that the wizard called cleared."""
    if record is None or record.cleared_at is None or not data_files:
        return ()
    names = name_files([entry.path for entry in data_files])
    return (
        Finding(
            Reason.ALREADY_CLEARED,
            f"the wizard cleared it at {record.cleared_at:%Y-%m-%d %H:%M} UTC, as sync_state.json says, yet data is "
            f"still here: {names}",
        ),
    )


def name_differences(differences: records.Differences) -> str:
    """Return in words how files differ from the record."""
    said = (
        ("not listed", differences.unlisted),
        ("not verified", differences.unverified),
        ("changed since their copying", differences.changed),
        ("missing", differences.missing),
    )
    return "; ".join(f"{words}: {name_files(paths)}" for words, paths in said if paths)


def name_files(paths: Sequence[bytes], *, of: int | None = None) -> str:
    """Return the number of files and the first names; `of` is the full number."""
    count = len(paths) if of is None else of
    more = f" and {count - NAMES_SHOWN} more" if count > NAMES_SHOWN else ""
    names = name_some([show(path) for path in paths[:NAMES_SHOWN]])
    return f"{count} {'file' if count == 1 else 'files'}: {names}{more}"


def of_problems(problems: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding per reason, with the first details."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.detail)
    return tuple(Finding(Reason(reason), name_some(details)) for reason, details in by_reason.items())


def compare_record(run: Run, opened: OpenRun, record: Records | None) -> tuple[Records | None, tuple[Finding, ...]]:
    """Return the records, read unless given, and where they contradict the database."""
    try:
        record = returned.as_staged(run, record or read_records(opened, *record_places(run)))
    except ingest.IngestError as error:
        return None, (Finding(Reason(error.reason), error.detail),)
    recorded = [event.digest for event in run.history]
    written = [entry.digest for entry in record.main.history]
    if recorded and not written:
        return record, (Finding(Reason.INGEST_DISAGREES, "ingest.json is gone, and with it the history"),)
    if recorded and recorded != written:
        position = next((i for i, pair in enumerate(zip(recorded, written, strict=False)) if len(set(pair)) > 1), None)
        if position is not None:
            return record, (Finding(Reason.INGEST_DISAGREES, f"history entry {position + 1} was rewritten"),)
        if len(written) < len(recorded):
            return record, (Finding(Reason.INGEST_DISAGREES, "history entries were taken away"),)
    return record, ()


def compare_manifest(
    opened: OpenRun, scanned: run_tree.Scan, record: Records | None, now: datetime
) -> tuple[manifest.Manifest | None, bool, tuple[Finding, ...]]:
    """Return the manifest, whether signatures replace it, and how the tree differs."""
    findings = of_problems(unexpected.problems(scanned, nanoseconds(now))) + _compare_listed(scanned, record)
    try:
        listed = manifest.read(opened.run)
    except manifest.ManifestError as error:
        if error.reason == "manifest_missing" and record is not None and not record.main.history:
            return None, True, findings
        return None, False, (*findings, Finding(Reason(error.reason), error.detail))
    staged = scanned.data_files.paths
    extra = _not_listed(scanned.data_files, listed)
    still_open = {path for path in extra if desktop_files.is_open(path)}
    missing, first = missing_files(listed, staged, scanned.desktop)
    for reason, paths in ((Reason.WRITER_ACTIVE, still_open), (Reason.NOT_IN_MANIFEST, extra - still_open)):
        if paths:
            why = near_misses.of_names(extra, first)
            more = _say_more(reason, paths) + (why and f"; {why}")
            findings += (Finding(reason, name_files(sorted(paths)) + more),)
    if missing:
        findings += (Finding(Reason.MISSING_FILE, name_files(first, of=missing)),)
    elif len(extra) == len(staged):
        findings += (Finding(Reason.MANIFEST_EMPTY),)
    return listed, False, findings


def _not_listed(staged: run_tree.ChosenEntries, listed: manifest.Manifest) -> set[bytes]:
    # Nearly always all are listed, and each only once: then the number tells it.
    if sum(1 for path in listed.paths() if staged.get(path) is not None) == len(staged):
        return set()
    return {entry.path for entry in staged}.difference(listed.paths())


def _say_more(reason: Reason, paths: Collection[bytes]) -> str:
    if reason is Reason.WRITER_ACTIVE:
        return "; the name says that it was deleted while a program had it open"
    large = reason is Reason.NOT_IN_MANIFEST and any(map(desktop_files.is_named, paths))
    return "; of desktops or NAS systems, and larger than what is kept with a run" if large else ""


def missing_files(
    listed: manifest.Manifest, staged: Collection[bytes], desktop: Collection[bytes], *, named: int = NAMES_SHOWN
) -> tuple[int, list[bytes]]:
    """Return how many listed data files are not staged, and the first `named`.

    Counted, not collected: a manifest may have millions of lines.
    """

    def away() -> Iterator[bytes]:
        return (
            path for path in listed.paths() if path not in staged and path not in desktop and run_tree.is_data(path)
        )

    mains = listed.digests_of({desktop_files.main_of(path) for path in away() if desktop_files.is_beside(path)})

    def missing() -> Iterator[bytes]:
        return (path for path in away() if not desktop_files.may_be_missing(path, mains))

    return sum(1 for _ in missing()), heapq.nsmallest(named, missing())


def _compare_listed(scanned: run_tree.Scan, record: Records | None) -> tuple[Finding, ...]:
    if record is None or record.cleared_at is not None:
        return ()
    differences = record.compare(scanned.data_files, scanned.desktop)
    if record.main.history:
        said = name_differences(differences)
        return (Finding(Reason.SYNC_STATE_DIFFERS, said),) if said else ()
    if differences.missing:
        return (Finding(Reason.MISSING_FILE, f"listed in sync_state.json: {name_files(differences.missing)}"),)
    return ()


def find_writers(scanned: run_tree.Scan, names: Collection[bytes]) -> tuple[Finding, ...]:
    """Return `writer_active` if a process writes a file of the run; `names` are its directory's."""

    def among(written: Collection[int]) -> set[int]:
        # The wizard's locks have a check of their own.
        found = [entry for entry in scanned.entries if entry.ino in written and entry.is_file]
        return {entry.ino for entry in found if not run_tree.is_lock(entry) and not hold_file.is_hold(entry.path)}

    busy = writers.find_writers(scanned.device, among, names)
    return (Finding(Reason.WRITER_ACTIVE, name_some(busy)),) if busy else ()


def nanoseconds(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
