"""The people whom the wizard's `creation.json` names."""

from collections.abc import Iterator
from typing import Any

# Instrument PCs can write the file: of a longer list the first names count, and of a longer name its beginning.
MOST_NAMES = 8
LONGEST_NAME = 128
# Who began the run, and who is named in the answers to the wizard's questions.
_KEYS = ("created_by", "operator", "operators")


def people_in(creation: dict[str, Any]) -> tuple[str, ...]:
    """Returns the different names, who created the run first."""
    variables = creation.get("variables")
    said = [*_said(creation), *_said(variables if isinstance(variables, dict) else {})]
    return tuple(dict.fromkeys(name for text in said if (name := _clean(text))))[:MOST_NAMES]


def _said(values: dict[str, Any]) -> Iterator[str]:
    for key in _KEYS:
        value = values.get(key)
        # Far more than count: what is over is not read.
        some = value[: 8 * MOST_NAMES] if isinstance(value, list) else [value]
        yield from (each for each in some if isinstance(each, str))


def _clean(text: str) -> str:
    return " ".join(text[: 8 * LONGEST_NAME].split())[:LONGEST_NAME].rstrip()
