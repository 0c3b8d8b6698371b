"""Reports what the explorers saw, at the end of the test run."""

from collections import Counter
from typing import Any

import pytest

POINTS = "points"
VIOLATIONS = "violations"
PLANTED = "planted"
NOTICED = "noticed"

# (engine, what, kind, number): plain values, because a worker sends them to the main process.
Row = tuple[str, str, str, int]
_rows: list[Row] = []


def explored(kind: str, points: int, violations: int) -> None:
    _note(POINTS, kind, points)
    _note(VIOLATIONS, kind, violations)


def planted(*, noticed: bool) -> None:
    _note(PLANTED, "", 1)
    _note(NOTICED, "", int(noticed))


def _note(what: str, kind: str, number: int) -> None:
    from django.db import connection

    _rows.append((connection.vendor, what, kind, number))


# Hooks: the root conftest registers this module as a plugin.


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workeroutput"):
        config.workeroutput["explored"] = _rows  # sent when the worker is done


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    _rows.extend(tuple(row) for row in getattr(node, "workeroutput", {}).get("explored", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _rows:
        terminalreporter.section("the clear, explored")
        for line in summary(_rows):
            terminalreporter.write_line(line)


def summary(rows: list[Row]) -> list[str]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for engine, what, kind, number in rows:
        counted[engine, what, kind] += number
    engines = sorted({engine for engine, *_rest in rows}, reverse=True)
    kinds = list(dict.fromkeys(kind for _engine, what, kind, _number in rows if what == POINTS))

    def line(name: str, cells: list[str]) -> str:
        return f"{name:<24}" + "".join(f"{cell:>14}" for cell in cells)

    def total(engine: str, what: str) -> int:
        return sum(number for (where, each, _kind), number in counted.items() if (where, each) == (engine, what))

    lines = [line("", engines)]
    lines += [line(kind, [str(counted[engine, POINTS, kind]) for engine in engines]) for kind in kinds]
    if kinds:
        lines.append(line("points in all", [str(total(engine, POINTS)) for engine in engines]))
        lines.append(line("promises broken", [str(total(engine, VIOLATIONS)) for engine in engines]))
    if any(total(engine, PLANTED) for engine in engines):
        faults = [f"{total(engine, NOTICED)} of {total(engine, PLANTED)}" for engine in engines]
        lines.append(line("planted faults noticed", faults))
    return lines
