"""Attributes, access lists and empty folders of a run, which no manifest lists."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cleanup.storage import handles, run_paths
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.run_tree import Entry

# Samba keeps Windows' alternate streams in `user.DosStream.*`. Its `user.DOSATTRIB` holds only flags and a time, so it
# is left out.
_USER = "user."
_FLAGS_OF_SAMBA = "user.DOSATTRIB"
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_TOGETHER = 1024
# By path and by attribute name: the SHA-256 of the value.
Attributes = dict[bytes, dict[str, str]]


@dataclass(frozen=True)
class BeyondBytes:
    """The SHA-256 of attribute values by path and name, and folders without files."""

    attributes: Attributes = field(default_factory=dict)
    folders: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.attributes or self.folders)


def found_in(run: int, entries: Iterable[Entry], apart: Collection[bytes] = ()) -> BeyondBytes:
    """Returns what a run has besides bytes; paths in `apart` give no attributes."""
    data = (entry for entry in entries if run_tree.is_data(entry.path) and entry.path != run_paths.METADATA)
    attributes: Attributes = {}
    folders, holding = set[bytes](), set[bytes]()
    # In a scan the entries of a folder follow each other.
    for folder, inside in itertools.groupby(data, key=lambda entry: entry.path.rpartition(b"/")[0]):
        while some := list(itertools.islice(inside, _TOGETHER)):
            attributes |= _attributes_in(run, folder, [entry.path for entry in some if entry.path not in apart])
            folders |= {entry.path for entry in some if not entry.is_file}
            if folder and folder not in holding and any(entry.is_file for entry in some):
                holding |= {folder, *_above(folder)}
    return BeyondBytes(attributes, tuple(_without_files(folders, holding)))


def _attributes_in(run: int, folder: bytes, paths: Iterable[bytes]) -> Attributes:
    attributes: Attributes = {}
    with contextlib.suppress(OSError), handles.opened(handles.open_beneath(run, folder or b".")) as descriptor:
        for path in paths:
            if found := attributes_of(descriptor, path.rpartition(b"/")[2]):
                attributes[path] = found
    return attributes


def attributes_of(folder: int, name: bytes) -> dict[str, str]:
    """Returns the SHA-256 in hex of each attribute of an entry."""
    path = b"/proc/self/fd/%d/%s" % (folder, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    found = {}
    for attribute in filter(_counts, names):
        with contextlib.suppress(OSError):
            value = os.getxattr(path, attribute, follow_symlinks=False)
            found[attribute] = hashlib.sha256(value).hexdigest()
    return found


def _counts(attribute: str) -> bool:
    is_own = attribute.startswith(_USER) and attribute != _FLAGS_OF_SAMBA
    return is_own or attribute in ACCESS_LISTS


def _without_files(folders: Collection[bytes], holding: Collection[bytes]) -> list[bytes]:
    # Of nested empty folders only the uppermost counts.
    empty = {path for path in folders if path not in holding}
    return sorted(path for path in empty if not any(above in empty for above in _above(path)))


def _above(path: bytes) -> list[bytes]:
    steps = path.split(b"/")
    return [b"/".join(steps[:count]) for count in range(1, len(steps))]


def lacking(twin: int, asked: BeyondBytes) -> BeyondBytes:
    """Returns the part of `asked` that the open twin lacks or has otherwise."""
    folders = tuple(path for path in asked.folders if not _is_folder(twin, path))
    attributes: Attributes = {}
    for path, wanted in asked.attributes.items():
        above, _, name = path.rpartition(b"/")
        there: Mapping[str, str] = {}
        with contextlib.suppress(OSError), handles.opened(handles.open_beneath(twin, above or b".")) as folder:
            there = attributes_of(folder, name)
        if lost := {attribute: value for attribute, value in wanted.items() if there.get(attribute) != value}:
            attributes[path] = lost
    return BeyondBytes(attributes, folders)


def _is_folder(twin: int, path: bytes) -> bool:
    try:
        os.close(handles.open_beneath(twin, path))
    except OSError:
        return False
    return True


def as_json(found: BeyondBytes) -> dict[str, object]:
    """Returns plain values, for a pipe."""
    return {
        "folders": [os.fsdecode(path) for path in found.folders],
        "attributes": [[os.fsdecode(path), values] for path, values in found.attributes.items()],
    }


def from_json(values: Mapping[str, Any]) -> BeyondBytes:
    """The inverse of `as_json`."""
    attributes = {os.fsencode(path): dict(found) for path, found in values["attributes"]}
    return BeyondBytes(attributes, tuple(os.fsencode(path) for path in values["folders"]))
