"""A process that clears, recovers or sweeps, and dies where its test says.

Run as `python -m tests.faults.child WHAT NOW [ATTEMPT]`. EXLAB_TEST_DIE says when to die by SIGKILL:
`<module>:<function>:before|after:<which call>`. EXLAB_TEST_WAIT makes it wait there for a line on stdin
instead. With EXLAB_TEST_REMOVERS so many threads remove, a few files at a time, all from the beginning.
"""

import importlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

DIE = "EXLAB_TEST_DIE"
WAIT = "EXLAB_TEST_WAIT"
REMOVERS = "EXLAB_TEST_REMOVERS"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    say("here")
    sys.stdin.readline()


def interpose(place: str, act: Callable[[], None]) -> None:
    module_name, function, when, number = place.split(":")
    owner: Any = importlib.import_module(module_name)
    *classes, name = function.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = itertools.count(1)

    def interposed(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == int(number)  # one step, also for threads
        if now and when == "before":
            act()
        result = original(*args, **kwargs)
        if now and when == "after":
            act()
        return result

    setattr(owner, name, interposed)


def remove_by(threads: int) -> None:
    from cleanup.storage import shared_work
    from cleanup.storage.staging import removal, removal_tasks

    together, work_through = threading.Barrier(threads), shared_work._work_through

    def begin_together(*args: Any) -> None:
        together.wait()
        work_through(*args)

    shared_work._work_through = begin_together
    removal.removers_for = lambda entries: threads
    removal_tasks.TASK_FILES = 5


def main() -> None:
    import django

    django.setup()
    from cleanup.clears import protocol, recovery
    from cleanup.models import ClearAttempt
    from cleanup.sweeps import all_roots

    if threads := os.environ.get(REMOVERS):
        remove_by(int(threads))
    for variable, act in ((DIE, die), (WAIT, wait)):
        if place := os.environ.get(variable):
            interpose(place, act)
    what, at, *arguments = sys.argv[1:]
    now = datetime.fromisoformat(at)
    if what == "clear":
        attempt = protocol.perform(ClearAttempt.objects.get(pk=arguments[0]), now=now)
        answer = [attempt.phase, attempt.freed_files, attempt.freed_bytes]
    elif what == "recover":
        settled = recovery.recover(now=now)
        answer = [len(settled.rolled_back), len(settled.rolled_forward), len(settled.unsettled)]
    else:
        swept = all_roots.sweep(now=now)
        answer = [[action.run_path, action.action, action.reason] for action in swept.runs]
    say(json.dumps(answer))


if __name__ == "__main__":
    main()
