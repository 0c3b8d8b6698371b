"""Evidence of a clear outside of the database: its archive, its signed receipt, or both."""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import InterfaceError, OperationalError

logger = logging.getLogger(__name__)

Story = dict[str, Any]


class DoubtedClear(Exception):
    """Why evidence is not taken for a clear. `root`, `run_path`: what it says of the place, as far as known."""

    def __init__(self, said: str, *, root: str = "", run_path: str = "", run: int | None = None) -> None:
        super().__init__(said)
        self.root, self.run_path, self.run = root, run_path, run


@dataclass(frozen=True)
class SignedClear:
    """What an intact receipt of a key of this installation says: the clear, and the run's history with its end."""

    name: str
    story: Story
    history: list[Story]
    identity: str
    record_format: str
    project_name: str
    complete: bool


@dataclass(frozen=True)
class Evidence:
    """All that tells of one attempt. `archive`: the story of its tombstone; `unread`: why there is none."""

    attempt: str
    archive: Story | None
    receipt: SignedClear | None
    unread: str = field(default="", compare=False)

    @property
    def story(self) -> Story:
        """What both say. The receipt has the last word: it is richer, written after the clear, and signed."""
        return {**(self.archive or {}), **(self.receipt.story if self.receipt else {})}

    @property
    def plan_sha256(self) -> str:
        return str(self.story.get("plan_sha256") or "")

    @property
    def name(self) -> str:
        """Of the archive and the receipt, as they lie in the data directory."""
        names = [f"tombstones/{self.attempt}.tar.gz"] if self.archive is not None else []
        return " and ".join([*names, *([f"receipts/{self.receipt.name}"] if self.receipt else [])])


def expect_storable(story: object) -> None:
    """Raises DoubtedClear for text that a database or a page cannot hold."""
    said = json.dumps(story, ensure_ascii=False)
    try:
        said.encode("utf-8")
    except UnicodeError:
        raise DoubtedClear("it cannot be read: it holds broken text") from None
    if "\\u0000" in said:
        raise DoubtedClear("it cannot be read: it holds a NUL character")


@contextlib.contextmanager
def one_document(name: str) -> Iterator[None]:
    """A block that reads or takes over one document: what fails there is a doubt of it, and the rest goes on."""
    try:
        yield
    except (DoubtedClear, OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("%s cannot be taken over", name)
        raise DoubtedClear(f"it cannot be taken over: {type(error).__name__}, see the log") from None
