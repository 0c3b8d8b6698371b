"""The names in the plan of a clear: searched line by line, so that a list of a million files needs no memory."""

import os
import re
import unicodedata
from collections.abc import Iterator

from cleanup.storage.data_directory import data_place
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging import plan

_ATTEMPT = re.compile(r"[0-9a-f]{32}")
_LINES_AT_ONCE = 2_000


def containing(data: DataDir, attempt: str, sha256: str, text: str) -> Iterator[bytes | None]:
    """Yields the paths of a plan's files that contain a text, in upper or lower case; None after every 2,000 lines.

    Raises FileNotFoundError for a plan that is gone, PlanError for one of another SHA-256, OSError.
    """
    if not _ATTEMPT.fullmatch(attempt):
        raise ValueError(f"{attempt} is no attempt")
    data_place.expect_same(data.path)  # behind an unmounted data directory every plan looks gone
    wanted = folded(text)
    sure = _written(wanted)
    with open(os.path.join(data.path, "plans", attempt), "rb") as file:
        for number, line in enumerate(plan.lines(file, sha256), 1):
            # To read JSON takes longer than this. Signs beyond ASCII stand as \u…, and may fold to plain ones.
            if sure in line.lower() or rb"\u" in line:
                entry = plan.entry(line)
                if entry.is_file and wanted in folded(os.fsdecode(entry.path)):
                    yield entry.path
            if not number % _LINES_AT_ONCE:
                yield None


def folded(text: str) -> str:
    """The text as it is compared: an accented letter may be written as one sign or as two."""
    return unicodedata.normalize("NFC", text).casefold()


def _written(wanted: str) -> bytes:
    """What a matching line without escapes has in it; empty where that is not sure."""
    plain = wanted.isascii() and wanted.isprintable() and not {'"', "\\"} & set(wanted)
    return wanted.encode() if plain else b""
