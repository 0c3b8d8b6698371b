"""What a piece of work costs, each time in a process of its own."""

import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Work = Callable[[], None]
_STOPS = (signal.SIGTERM, signal.SIGINT)


class Failed(Exception):
    """The measured work, or what comes before it, ended with an error, which is on standard error."""


@dataclass(frozen=True)
class Cost:
    """Seconds that passed; of the processor, user and system, in this process and its children; the most memory."""

    seconds: float
    own_cpu: float
    children_cpu: float
    peak_mib: int

    @property
    def cpu(self) -> float:
        return self.own_cpu + self.children_cpu


def measured(begin: Callable[[], Work]) -> Cost:
    """The cost of the work that `begin` returns; `begin` itself is not measured. Raises Failed."""
    return Cost(**json.loads(_in_a_child(lambda: json.dumps(asdict(_timed(begin()))))))


def apart(work: Work) -> None:
    """Does some work in another process, which takes its memory with it. Raises Failed."""

    def silent() -> str:
        work()
        return ""

    _in_a_child(silent)


def _timed(work: Work) -> Cost:
    gc.collect()
    own, children, begun = _processor(resource.RUSAGE_SELF), _processor(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    own, children = _processor(resource.RUSAGE_SELF) - own, _processor(resource.RUSAGE_CHILDREN) - children
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(seconds, own, children, peak // 1024)


def _processor(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _in_a_child(work: Callable[[], str]) -> str:
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not during the fork: what a handler raises in a hook of the fork is dropped.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    try:
        with contextlib.suppress(OSError):  # whichever of both is first, or the child has ended
            os.setpgid(child, child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        with os.fdopen(reader) as answers:
            answer = answers.read()
    except BaseException:
        # Interrupted: what the child has started is in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if status:
        raise Failed
    return answer


def _answer(work: Callable[[], str], writer: int) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        for name in _STOPS:
            signal.signal(name, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.write(writer, work().encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# Many of them


@dataclass(frozen=True)
class Ratios:
    """Ours divided by theirs, in each round."""

    each: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    @property
    def lowest(self) -> float:
        return min(self.each)

    @property
    def highest(self) -> float:
        return max(self.each)

    def as_json(self) -> dict[str, float]:
        return {
            "median": round(self.median, 3),
            "lowest": round(self.lowest, 3),
            "highest": round(self.highest, 3),
        }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Ratios:
    """Each round for itself, because a busy machine is as busy for both sides of one round."""
    return Ratios(tuple(our / max(their, 1e-6) for our, their in zip(ours, theirs, strict=True)))


def as_json(costs: Sequence[Cost]) -> dict[str, Any]:
    """Seconds of each round, and their medians."""
    return {
        "seconds": [round(cost.seconds, 4) for cost in costs],
        "cpu_seconds": [round(cost.cpu, 4) for cost in costs],
        "cpu_seconds_of_children": [round(cost.children_cpu, 4) for cost in costs],
        "median_seconds": round(statistics.median(cost.seconds for cost in costs), 4),
        "median_cpu_seconds": round(statistics.median(cost.cpu for cost in costs), 4),
        "peak_mib": max(cost.peak_mib for cost in costs),
    }
