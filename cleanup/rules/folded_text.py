"""Texts without regard to case and to how their letters are written, the same on every database."""

import re
import unicodedata

# Turkish writes a dot or none: the reader who types `i` means all four letters.
_DOTLESS = str.maketrans({"\u0131": "i"})
_DOTTED = re.compile("i\u0307+")


def fold(text: str) -> str:
    """The text by which two names are the same: NFKC, and the case of all letters folded."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def fold_for_search(text: str) -> str:
    """As `fold`; the dots of a Turkish I do not count."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_DOTLESS)
    return unicodedata.normalize("NFKC", _DOTTED.sub("i", plain))
