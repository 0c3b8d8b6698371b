"""What the twin lacks besides bytes, as a fact for the gates."""

from cleanup.lab.nas.nas_roots import twin_of
from cleanup.lab.nas.nas_transport import Reader
from cleanup.models import Run
from cleanup.rules.facts import OnlyHere
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.staging import beyond_bytes
from cleanup.storage.staging.beyond_bytes import ACCESS_LISTS, BeyondBytes
from cleanup.storage.staging.run_tree import Scan

_NAMES_SHOWN = 5
_LONGEST_NAME = 120


def only_here(run: Run, opened: int, scanned: Scan, reader: Reader) -> OnlyHere | None:
    """Return what the twin lacks, all of it if the NAS is not asked; None if nothing."""
    found = beyond_bytes.found_in(opened, scanned.entries, scanned.desktop)
    if not found:
        return None
    try:
        lacking = reader.lacking(twin_of(run).path, found)
    except client.NasError:
        lacking = found
    return _described(lacking) if lacking else None


def _described(found: BeyondBytes) -> OnlyHere:
    pairs = [(path, name) for path, values in sorted(found.attributes.items()) for name in values]
    lists = [path for path, name in pairs if name in ACCESS_LISTS]
    own = [(path, name) for path, name in pairs if name not in ACCESS_LISTS]
    names = [f"{show(path)} ({show(name.encode('utf-8', 'surrogateescape'))})" for path, name in own]
    names += [f"{show(path)} (access list)" for path in dict.fromkeys(lists)]
    names += [f"{show(path)}/" for path in found.folders]
    return OnlyHere(
        attributes=len(own),
        access_lists=len(set(lists)),
        folders=len(found.folders),
        names=tuple(name[:_LONGEST_NAME] for name in names[:_NAMES_SHOWN]),
    )
