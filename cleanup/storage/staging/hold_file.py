"""The hold file: an entry `.exlab-hold` at a run's top holds the run. It is no data and never removed."""

import codecs
from dataclasses import dataclass

from cleanup.storage import accounts, handles, linux

# A file, because operators at the instruments have no account.
NAME = b".exlab-hold"
MAX_CHARACTERS = 500
# Enough for this number of characters in any encoding.
_MAX_BYTES = 4 * MAX_CHARACTERS + 4


@dataclass(frozen=True)
class HoldFile:
    """The text of a hold file and its owner's name or number."""

    text: str
    owner: str


def is_hold(path: bytes) -> bool:
    """Whether a path is the hold file or lies in a folder of that name."""
    return path == NAME or path.startswith(NAME + b"/")


def read(run: int) -> HoldFile | None:
    """Returns the hold file of an open run, or None. Raises OSError."""
    try:
        status = linux.status(run, NAME)
    except FileNotFoundError:
        return None
    try:
        # An unreadable file, a folder or a link holds too, without text. Links are not followed, pipes not waited for.
        data = handles.read_file(run, NAME, _MAX_BYTES) if status.is_file else b""
    except OSError:
        data = b""
    return HoldFile(_text_of(data), accounts.name_of(status.uid) or str(status.uid))


def _text_of(data: bytes) -> str:
    # One line without control characters, which databases and pages cannot show.
    # Windows writes its "Unicode" as UTF-16.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    words = " ".join(data.decode(encoding, "replace").split())
    return "".join(char for char in words if char.isprintable())[:MAX_CHARACTERS].strip()
