"""People and a discovered lab, at the instant of all tests."""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.conf import settings as project
from django.test import Client
from django.utils import timezone

from tests.tools import sites
from tests.tools.lab import Lab, touch

if TYPE_CHECKING:
    from cleanup.models import Run, StagingRoot

SAFE = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"
TEST_RUN = "CONFOCAL_01/PROJ-0042/TestRuns/TestRun_2026-04-17T09-12"
QUEUED = "CONFOCAL_01/PROJ-0051/Runs/Run_2026-05-02T08-00"
EXTRA = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20"
TOUCHED = "FLOW_01/PROJ-0060/Runs/Run_2026-05-29T16-20"
BROKEN = "PLATE_READER_02/PROJ-0007/Runs/Run_2026-03-11T07-05"


@pytest.fixture(autouse=True)
def _clock(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def people(db: None, settings: Any) -> SimpleNamespace:
    """Clients: `operator`, `viewer`, `stranger` without a group, `admin`, and `nobody` signed in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose
    sessions = sites.once(("people", timezone.now(), settings.SESSION_COOKIE_AGE), _sign_in_all)
    clients = {name: Client(raise_request_exception=False) for name in sessions}
    for name, client in clients.items():
        client.cookies[settings.SESSION_COOKIE_NAME] = sessions[name]
    return SimpleNamespace(**clients, nobody=Client())


def _sign_in_all() -> dict[str, str]:
    from django.contrib.auth.models import Group, User

    users = {name: User.objects.create_user(name, password=name) for name in ("operator", "viewer", "stranger")}
    for name in ("operator", "viewer"):
        users[name].groups.add(Group.objects.get(name=name))
    users["admin"] = User.objects.create_superuser("admin", password="admin")
    sessions = {}
    for name, user in users.items():
        client = Client()
        client.force_login(user)
        sessions[name] = client.cookies[project.SESSION_COOKIE_NAME].value
    return sessions


@pytest.fixture
def keeper(people: SimpleNamespace) -> Callable[..., Client]:
    from django.contrib.auth.models import Permission, User

    from cleanup.models import Access

    def sign_in(**place: Any) -> Client:
        user = User.objects.create_user(f"keeper-{User.objects.count()}")
        user.user_permissions.set(Permission.objects.filter(group__name="operator"))
        Access.objects.create(user=user, **place)
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def beating(db: None, now: datetime) -> None:
    from cleanup.models import Heartbeat

    Heartbeat.objects.create(cluster=project.EXLAB_CLEAR_CLUSTER, host="lab-pc", at=now - timedelta(seconds=30))


@pytest.fixture
def site(db: None, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One run of each kind, discovered; built anew only after a test has changed it."""
    return sites.lay("pages", lambda lab: _build(lab, now), tmp_path_factory)


def register(lab: Lab, now: datetime) -> "StagingRoot":
    from cleanup.lab.roots import registration

    return registration.register(
        "lab",
        str(lab.staging),
        nas_path=str(lab.nas),
        allow_same_filesystem=True,
        accept_empty=True,
        now=now,
    )


def _build(lab: Lab, now: datetime) -> None:
    from cleanup.runs import discovery

    root = register(lab, now)
    lab.run(SAFE)
    lab.run(TEST_RUN, files={"plate.csv": b"1,2\n"})
    lab.run(QUEUED, state="sync_queued", project_name="Second project")
    extra = lab.run(EXTRA, project_name="Immune panel")
    (extra / "notes after.txt").write_text("late")
    touch(extra / "notes after.txt", datetime(2026, 5, 28, 17, tzinfo=now.tzinfo))
    touched = lab.run(TOUCHED, project_name="Immune panel")
    touch(touched / "stack.ome.xml", datetime(2026, 6, 1, tzinfo=now.tzinfo))
    broken = lab.run(BROKEN)
    (broken / ".exlab-wizard/ingest.json").write_text("{broken")
    discovery.discover(root, now=now - timedelta(minutes=2))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    found: Lab = request.getfixturevalue("site" if "site" in request.fixturenames else "lab")
    return found


@pytest.fixture
def root(request: pytest.FixtureRequest) -> "StagingRoot":
    from cleanup.models import StagingRoot

    if "site" in request.fixturenames:
        request.getfixturevalue("site")
        return StagingRoot.objects.get(name="lab")
    found: StagingRoot = request.getfixturevalue("root")
    return found


@pytest.fixture
def runs(site: Lab) -> "dict[str, Run]":
    from cleanup.models import Run

    return {run.run_path: run for run in Run.objects.with_root()}


@pytest.fixture
def many(runs: "dict[str, Run]") -> Callable[[int], None]:
    def add(number: int) -> None:
        for index in range(number):
            run = copy.copy(runs[SAFE])
            run.pk, run.leaf, run._state = None, f"Run_{index:05}", copy.copy(run._state)
            run._state.adding = True
            run.run_path = f"CONFOCAL_01/PROJ-0042/Runs/{run.leaf}"
            run.identity = f"{index}:-:-"
            run.save()

    return add
