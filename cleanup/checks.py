"""System checks: the conditions of this program's promises."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from cleanup.lab import readiness
from cleanup.models import StagingRoot, triggers
from exlab import places
from exlab.settings import read

NO_STAGING_ROOT = "cleanup.W002"

Apps = Sequence[AppConfig] | None


@register()
def check_kernel(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:  # noqa: ANN401
    """E001, E004: the calls that fencing and safe opening need."""
    if sys.platform != "linux":
        return [
            Error(
                f"Runs are cleared on Linux only, and this is {sys.platform}.",
                hint="Run it on the Linux host that has the staging disk.",
                id="cleanup.E004",
            )
        ]
    from cleanup.storage import linux

    missing = linux.missing_calls()
    if not missing:
        return []
    return [
        Error(
            f"This kernel lacks {', '.join(missing)}: nothing can be cleared safely.",
            hint="Linux 5.6 or newer has them. Inside a container, its seccomp profile must let them through.",
            id="cleanup.E001",
        )
    ]


@register()
def check_data_directory(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:  # noqa: ANN401
    """E005, W001, W005: the data directory can be used and is private to this user."""
    path = settings.EXLAB_DATA_DIR
    if problem := places.trouble(path):
        return [Error(problem, id="cleanup.E005")]
    if not path.exists():
        return []
    messages: list[CheckMessage] = []
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        problem = (
            f"The data directory {path} is open to other users, and it holds the secret key and records of clears."
        )
        messages.append(Warning(problem, hint=f"chmod 700 {path}", id="cleanup.W001"))
    if os.geteuid() == 0 != status.st_uid:
        problem = (
            f"The data directory {path} belongs to {places.owner(path)}, and files that root makes keep others out."
        )
        messages.append(Warning(problem, hint=f"sudo -u {places.owner(path)} ...", id="cleanup.W005"))
    return messages


@register()
def check_names_of_settings(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:  # noqa: ANN401
    """W004: names like a setting's that no setting has."""
    return [
        Warning(f"{name} is set, and there is no such setting.", hint="docs/settings.md names all.", id="cleanup.W004")
        for name in read.strangers
    ]


@register(Tags.database)
def check_append_only(
    app_configs: Apps,
    databases: Iterable[str] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> list[CheckMessage]:
    """E002: the triggers that protect history and ledger exist."""
    messages: list[CheckMessage] = []
    for connection in _connections(databases):
        existing = connection.introspection.table_names()
        bare = [table for table in triggers.missing(connection) if table in existing]
        if bare:
            messages.append(
                Error(
                    f"Rows of {', '.join(sorted(bare))} could be changed or removed: the triggers are missing.",
                    hint="`manage.py migrate --skip-checks` lays them again. Find out who took them away.",
                    id="cleanup.E002",
                )
            )
    return messages


@register(Tags.database)
def check_durability(
    app_configs: Apps,
    databases: Iterable[str] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> list[CheckMessage]:
    """E003: committed rows survive a power cut."""
    messages: list[CheckMessage] = []
    for connection in _connections(databases):
        if wrong := readiness.durability_lapses(connection):
            messages.append(
                Error(
                    f"The database may lose what it has committed: {', '.join(wrong)}.",
                    hint="A clear relies on its record being on disk before the first file goes.",
                    id="cleanup.E003",
                )
            )
    return messages


@register(Tags.database)
def check_staging_roots(
    app_configs: Apps,
    databases: Iterable[str] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> list[CheckMessage]:
    """W002, W003: a staging root is registered, and it is here."""
    for connection in _connections(databases):
        if StagingRoot._meta.db_table not in connection.introspection.table_names():
            continue
        if not StagingRoot.objects.using(connection.alias).exclude(token="").exists():
            return [
                Warning(
                    "No staging root carries a token yet, so there is nothing to discover or to clear.",
                    hint="manage.py add_staging_root NAME PATH --nas-root PATH",
                    id=NO_STAGING_ROOT,
                )
            ]
        hosts = sorted(set(StagingRoot.objects.using(connection.alias).values_list("host", flat=True)))
        if settings.EXLAB_HOST not in hosts:
            return [
                Warning(
                    f"Every staging root belongs to another host ({', '.join(hosts)}) than this one, "
                    f"{settings.EXLAB_HOST}: nothing is discovered or cleared here.",
                    hint=f"If this host was renamed, set EXLAB_HOST={hosts[0]}.",
                    id="cleanup.W003",
                )
            ]
    return []


def _connections(databases: Iterable[str] | None) -> list[BaseDatabaseWrapper]:
    return [connections[alias] for alias in databases or ()]
