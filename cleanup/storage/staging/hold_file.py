"""The hold file: people at the instruments have no account, so a file `.exlab-hold` at a run's top holds the run.

A file, a folder or a link of this name holds. It is no data: not compared with manifest or NAS, and never removed.
"""

import codecs
import pwd
from dataclasses import dataclass

from cleanup.storage import handles, linux

NAME = b".exlab-hold"
MAX_CHARACTERS = 500
# More than so many characters take in any encoding.
_MAX_BYTES = 4 * MAX_CHARACTERS + 4


@dataclass(frozen=True)
class HoldFile:
    """What a hold file says, and its owner's name, or number where the host knows no name."""

    text: str
    owner: str


def is_hold(path: bytes) -> bool:
    """Whether a path in a run is its hold file, or lies in a folder of that name."""
    return path == NAME or path.startswith(NAME + b"/")


def read(run: int) -> HoldFile | None:
    """The hold file of the run open as `run`; None if there is none. Raises OSError where its name cannot be looked up.

    One that cannot be read, or is no regular file, holds and says nothing. Links are not followed, pipes not waited
    for.
    """
    try:
        status = linux.status(run, NAME)
    except FileNotFoundError:
        return None
    try:
        data = handles.read_file(run, NAME, _MAX_BYTES) if status.is_file else b""
    except OSError:
        data = b""
    return HoldFile(_text_of(data), _name_of(status.uid))


def _text_of(data: bytes) -> str:
    """The words in a file, on one line and without control characters, which databases and pages would stumble over."""
    # What Windows calls "Unicode" has two bytes a character.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    words = " ".join(data.decode(encoding, "replace").split())
    return "".join(char for char in words if char.isprintable())[:MAX_CHARACTERS].strip()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
