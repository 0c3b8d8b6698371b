"""Clear one run at once, in this process. The import works before Django is set up."""

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
    """Clear one run and return (file count, bytes freed), as ExLab-Wizard's function of this name.

    Every file counts, with the metadata folder. A cleared run, and a path where nothing lies, give (0, 0). Unlike the
    wizard's this one asks every gate first and counts what it really removed.

    `run_path` is absolute beneath a staging root of this host, or below the one root that has it, or a `Run`. `config`,
    `ingest_writer` and `host` are the wizard's and ignored.

    Raises `cleanup.clears.refusal.Refused` where the run may not be cleared or the path is no run's; ValueError for a
    path in several staging roots or a `now` without a zone; ImproperlyConfigured before `django.setup()`. In a
    coroutine await `aclear_run`.
    """
    _require_django("clear_run")
    from cleanup.clears import find_by_path

    return find_by_path.clear(run_path, now=now, actor=actor, note=note)


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
    """Clear one run from a coroutine, as `clear_run`.

    It works in asgiref's database thread. Cancelling the await does not stop a clear that has begun.
    """
    _require_django("aclear_run")
    from asgiref.sync import sync_to_async

    in_thread = sync_to_async(clear_run, thread_sensitive=True)
    return await in_thread(run_path, now=now, actor=actor, note=note)


def _require_django(name: str) -> None:
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    if not (apps.ready and apps.is_installed("cleanup")):
        raise ImproperlyConfigured(f"Set DJANGO_SETTINGS_MODULE=exlab.settings and call django.setup() before {name}.")
