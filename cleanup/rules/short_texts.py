"""Texts that are longer than a column."""

import hashlib


def shorten(text: str, longest: int, *, mark: str) -> str:
    """At most `longest` characters; a longer text ends with mark and digest."""
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{text[: longest - len(digest) - 1]}{mark}{digest}"
