"""How long a text may be, and what becomes of a longer one: a person's is refused, the program's is shortened."""

import hashlib

# A row keeps this many characters of a reason or a note.
MAX_REASON = 500


def shorten(text: str, longest: int = MAX_REASON, *, mark: str = "…") -> str:
    """At most `longest` characters; a longer text ends with mark and digest."""
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{text[: longest - len(digest) - 1]}{mark}{digest}"


def reason(text: str) -> str:
    """The reason that a person gave, without space around it. Raises ValueError if it is empty or too long."""
    given = text.strip()
    if not given:
        raise ValueError("a reason must be given")
    return not_too_long(given)


def not_too_long(text: str) -> str:
    """The same text. Raises ValueError if a row cannot keep all of it."""
    if len(text) > MAX_REASON:
        raise ValueError(f"a reason has at most {MAX_REASON} characters, and this one has {len(text)}")
    return text
