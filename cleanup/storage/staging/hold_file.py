"""The hold file: people at the instruments have no account, so a file `.exlab-hold` at a run's top holds the run.

Whatever lies there under this name holds, be it a file, a folder or a link. It is no data: nobody compares it with the
manifest or the NAS, and nobody removes it.
"""

import codecs
import pwd
from dataclasses import dataclass

from cleanup.storage import handles, linux

NAME = b".exlab-hold"
MAX_CHARACTERS = 500
# More than so many characters take, whatever the encoding.
_MAX_BYTES = 4 * MAX_CHARACTERS + 4


@dataclass(frozen=True)
class HoldFile:
    """What a hold file says, and who laid it: the name of its owner, or the number where the host knows no name."""

    text: str
    owner: str


def is_hold(path: bytes) -> bool:
    """Whether a path relative to a run is that of its hold file, or lies in a folder of that name."""
    return path == NAME or path.startswith(NAME + b"/")


def read(run: int) -> HoldFile | None:
    """The hold file of the run that is open as `run`; None if there is none.

    What cannot be read, or is no regular file, holds and says nothing. Links are not followed, a pipe is not waited
    for. Raises OSError where not even its name can be looked up.
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
