"""The runs that a breaker's question shows: a go-on covers just these."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from cleanup.rules.policies.fields import TAKING_FIELDS
from cleanup.rules.policies.policy import Limits, Policy
from cleanup.rules.quantities import say_about, say_count


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """One run as shown; `mark` is a digest of it."""

    bytes: int
    versions: tuple[int, ...]
    mark: str


@dataclass(frozen=True)
class Shown:
    """The runs of one root in a question, by key."""

    runs: Mapping[int, ShownRun] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(run.bytes for run in self.runs.values())

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(sorted({version for run in self.runs.values() for version in run.versions}))

    @cached_property
    def code(self) -> str:
        """It names the question that a form answers."""
        seen = json.dumps(sorted((key, run.mark) for key, run in self.runs.items()))
        return hashlib.sha256(seen.encode()).hexdigest()[:16]

    def covers(self, key: int, now: ShownRun) -> bool:
        return key in self.runs and self.runs[key].mark == now.mark

    def lacks(self, now: "Shown") -> tuple[int, ...]:
        """Not shown, or shown otherwise."""
        return tuple(key for key, run in now.runs.items() if not self.covers(key, run))

    def as_json(self) -> dict[str, Any]:
        return {"runs": [[key, run.bytes, list(run.versions), run.mark] for key, run in self.runs.items()]}

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> "Shown":
        """Empty for an older row."""
        return cls(
            {
                key: ShownRun(bytes=size, versions=tuple(versions), mark=mark)
                for key, size, versions, mark in kept.get("runs", [])
            }
        )


def say_shown(shown: Shown) -> str:
    """`30 runs (60.0 GB) by policy versions 1, 3`."""
    word = "version" if len(shown.versions) == 1 else "versions"
    by = f" by policy {word} {', '.join(map(str, shown.versions))}" if shown.versions else ""
    return f"{say_count(len(shown.runs), 'run')} ({say_about(shown.bytes)}){by}"


def shown_run(
    *, identity: str, verified_at: datetime | None, size: int, due: bool, policy: Policy, limits: Limits
) -> ShownRun:
    """One run of a plan; if not `due`, the root's limits are behind it too."""
    versions = versions_behind(policy if due else policy.under_pressure(), None if due else limits)
    seen = json.dumps([identity, verified_at and verified_at.timestamp(), size, versions])
    mark = hashlib.sha256(seen.encode()).hexdigest()[:12]
    return ShownRun(bytes=size, versions=versions, mark=mark)


def versions_behind(policy: Policy, limits: Limits | None) -> tuple[int, ...]:
    """The versions that decide whether a run goes, lowest first."""
    found: Iterable[int] = (by.version for name, by in policy.decided_by.items() if name in TAKING_FIELDS)
    of_limits = () if limits is None else (*limits.rehearsing, *limits.promoted, *limits.unrehearsed)
    return tuple(sorted({*found, *of_limits}))
