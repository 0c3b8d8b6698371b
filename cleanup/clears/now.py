"""One run cleared at once and in this process, called as ExLab-Wizard's own function is called.

It can be imported before Django is set up; only the call needs it.
"""

import os
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cleanup.models import Run


def clear_run(
    run_path: "Run | str | os.PathLike[str]",
    *,
    config: object = None,
    ingest_writer: object = None,
    host: str | None = None,
    now: datetime | None = None,
    actor: str = "",
    note: str = "",
) -> tuple[int, int]:
    """Clear one run and return (file count, bytes freed), as ExLab-Wizard's function of this name does.

    Every file counts, the metadata folder included. A run that is cleared already, or of which nothing is there, is
    (0, 0) and gets no history entry; the record precedes the removal. Unlike the wizard's it asks every gate first,
    and it counts what was really removed.

    `run_path` is the absolute path of a run beneath a staging root of this host, its path below the staging root where
    only one root knows it, or a `Run`. A run that is not known yet, or not as verified, is looked at first. `actor`
    and `note` are kept with the attempt; `now` left out is the present. `config`, `ingest_writer` and `host`, which
    the wizard's function asks for, are accepted and ignored: policy, record and host are those of this program.

    Raises `cleanup.clears.refusal.Refused` with the reason where the run may not go or the path is no run's;
    ValueError for a path that stands for runs of several staging roots, or a `now` without a zone;
    ImproperlyConfigured before `django.setup()`. It works in the thread that calls it: in a coroutine, where Django
    refuses that, await `aclear_run`.
    """
    _require_django("clear_run")
    from cleanup.clears import by_path

    return by_path.clear(run_path, now=now, actor=actor, note=note)


async def aclear_run(
    run_path: "Run | str | os.PathLike[str]",
    *,
    config: object = None,
    ingest_writer: object = None,
    host: str | None = None,
    now: datetime | None = None,
    actor: str = "",
    note: str = "",
) -> tuple[int, int]:
    """`clear_run` for coroutines, with its arguments, its result and its exceptions.

    It works in the thread that asgiref keeps for the database, so the event loop goes on meanwhile. A clear that has
    begun is not stopped when the await is cancelled.
    """
    _require_django("aclear_run")
    from asgiref.sync import sync_to_async

    in_thread = sync_to_async(clear_run, thread_sensitive=True)
    return await in_thread(run_path, now=now, actor=actor, note=note)


def _require_django(name: str) -> None:
    """Raises ImproperlyConfigured, with what to do first, where the models cannot be used yet."""
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    if not (apps.ready and apps.is_installed("cleanup")):
        raise ImproperlyConfigured(f"Set DJANGO_SETTINGS_MODULE=exlab.settings and call django.setup() before {name}.")
