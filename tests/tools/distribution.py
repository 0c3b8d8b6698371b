"""Which worker runs which test: each worker decides alone, and the main process checks that none is left out.

Unmarked tests run on both engines. `one_engine` runs each case on one engine, by its name; `by="function"`
keeps all cases together, where workers may name them differently. `both_engines` exempts a test of a marked
file. `one_worker` keeps a file's tests together, for their order.
"""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests.tools import engines

_EACH_VARIABLE = "EXLAB_TESTS_ON_EACH_ENGINE"
# By engine: the tests that are to run on it, and those that some worker has taken.
_SEEN = pytest.StashKey[dict[str, tuple[set[str], set[str]]]]()


def begin(config: pytest.Config, vendor: str) -> None:
    config.stash[_SEEN] = {}
    if engines.WORKER:
        config.workeroutput["vendor"] = vendor  # type: ignore[attr-defined]
    elif config.getoption("dist", "no") == "each":
        os.environ[_EACH_VARIABLE] = "1"  # a worker is not told how the tests are distributed


@pytest.hookimpl(trylast=True)  # after the selection by marks and keywords
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not engines.WORKER or _EACH_VARIABLE not in os.environ:
        return
    on_this_engine = [item for item in items if _engine_of(item) in (None, engines.ENGINE)]
    turns = turns_of(on_this_engine)
    mine = [item for item in on_this_engine if engines.is_for_this_worker(_unit(item), turns.get(_unit(item)))]
    config.workeroutput["wanted"] = [_unit(item) for item in on_this_engine]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(mine)])
    items[:] = mine


def turns_of(items: Iterable[pytest.Item]) -> dict[str, int]:
    """The turn of each test that may take longer than most: these are dealt out, the longest first.

    By their names alone one worker might get most of them, and the others would wait for it.
    """
    seconds: dict[str, float] = {}
    for item in items:
        if mark := item.get_closest_marker("timeout"):
            seconds[_unit(item)] = max([seconds.get(_unit(item), 0), *mark.args])
    return {unit: turn for turn, unit in enumerate(sorted(seconds, key=lambda unit: (-seconds[unit], unit)))}


def pytest_collection_finish(session: pytest.Session) -> None:
    if engines.WORKER:
        taken = [_unit(item) for item in session.items]
        session.config.workeroutput["taken"] = taken  # type: ignore[attr-defined]


def _engine_of(item: pytest.Item) -> str | None:
    """The engine of a test marked `one_engine`; None if both must run it."""
    if item.get_closest_marker("one_engine") is None or item.get_closest_marker("both_engines"):
        return None
    return engines.engine_for(_name(item))


def _name(item: pytest.Item) -> str:
    name = item.nodeid.removeprefix("tests/")
    mark = item.get_closest_marker("one_engine")
    return name.partition("[")[0] if mark is not None and mark.kwargs.get("by") == "function" else name


def _unit(item: pytest.Item) -> str:
    """What one worker runs in one piece: a test with its parameters, or a file."""
    name = _name(item)
    return name if item.get_closest_marker("one_worker") is None else name.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    if error:
        return
    wanted, taken = node.config.stash[_SEEN].setdefault(node.workeroutput["vendor"], (set(), set()))
    wanted.update(node.workeroutput.get("wanted", ()))
    taken.update(node.workeroutput.get("taken", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _engines_missing(session.config) or _tests_missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if missing := _engines_missing(config):
        terminalreporter.write_line(f"No worker ran the tests on {' and '.join(sorted(missing))}.", red=True)
    for test in _tests_missing(config):
        terminalreporter.write_line(f"No worker ran {test}.", red=True)


def _engines_missing(config: pytest.Config) -> set[str]:
    if engines.WORKER or config.getoption("dist", "no") != "each" or config.getoption("collectonly"):
        return set()
    return set(engines.BOTH) - set(config.stash[_SEEN]) if config.getoption("tx", None) else set()


def _tests_missing(config: pytest.Config) -> list[str]:
    """The tests that one worker left to another and that none has taken."""
    seen = config.stash[_SEEN].items()
    return [f"{name} on {engine}" for engine, (wanted, taken) in seen for name in sorted(wanted - taken)]
