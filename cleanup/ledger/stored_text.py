"""Columns of JSON and keys read as the text that the database has, for files of very many rows."""

import json
from functools import lru_cache
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast

from cleanup.ledger import chain


def column(name: str) -> Cast:
    """A column as text."""
    return Cast(name, TextField())


def key(text: str | None) -> str | None:
    """A key in hex, as the chain's content has it."""
    return text.replace("-", "") if text else None


@lru_cache(maxsize=4096)  # few policies decide very many clears
def values(text: str) -> dict[str, Any]:
    """An object of JSON, which must not be changed."""
    found: dict[str, Any] = json.loads(text)
    return found


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """JSON as the chain's content has it; the database may store it in another form."""
    return chain.canonical(json.loads(text)).decode()
