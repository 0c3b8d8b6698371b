"""A disk that fills: its alarm, its mail, the room that is made, and the alarm's end, with real task clusters."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django_q.tasks import async_task
from playwright.sync_api import Page, expect

from cleanup.lab import task_queues
from cleanup.models import Alert, AlertKind, StagingRoot
from cleanup.runs import discovery
from tests.browser import test_clear
from tests.faults import means
from tests.management.test_up import wait_for
from tests.tools.lab import RUN_PATH, Lab
from tests.tools.mail_server import MailServer, mail_server
from tests.tools.pages import register

pytestmark = pytest.mark.exhaustive

MIB = 1 << 20


@pytest.fixture
def full(tmp_path: Any, transactional_db: None) -> Iterator[tuple[Lab, StagingRoot]]:
    """A staging disk of 40 MiB with a safe run of 20, and 16 of something else."""
    now = datetime.now(UTC)
    lab = Lab(tmp_path / "lab")
    with means.tiny_disk(lab.staging, "40m"):
        (lab.staging / "something-else").write_bytes(b"x" * 16 * MIB)
        lab.run(files={"plate.raw": b"\x01" * 20 * MIB}, verified_at=now - timedelta(days=3))
        root = register(lab, now)
        discovery.discover(root, now=now)
        yield lab, root


@pytest.fixture
def mails(subprocess_env: dict[str, str]) -> Iterator[MailServer]:
    with mail_server() as server:
        subprocess_env.update(EXLAB_EMAIL_URL=server.address, EXLAB_BASE_URL="https://staging.lab.example")
        yield server


def look_at_disks() -> None:
    """What the schedule asks for every five minutes."""
    async_task("cleanup.tasks.watch_disks", cluster=task_queues.queue_for(settings.EXLAB_HOST))


def test_from_a_full_disk_to_the_end_of_its_alarm(
    page: Page, live_server: Any, full: tuple[Lab, StagingRoot], mails: MailServer, subprocess_env: Any, sign_in: Any
) -> None:
    """Takes a quarter of a minute on each engine: two task clusters start."""
    lab, _root = full
    sign_in("admin")
    User.objects.update(email="admin@lab.example")
    with ExitStack() as stack:
        stack.enter_context(test_clear.cluster(subprocess_env, clears=False))
        stack.enter_context(test_clear.cluster(subprocess_env))
        look_at_disks()
        wait_for(lambda: mails.letters, "the mail")
        page.goto(live_server.url)
        expect(page.locator(".alarm")).to_contain_text("Nearly full 92 % used, 3.12 MB of 41.9 MB free")
        page.get_by_role("link", name="Make room on lab").click()
        page.get_by_label("I need").fill("20 MB")
        page.get_by_role("button", name="Show a plan").click()
        page.get_by_role("link", name="Look through this run, and clear").click()
        page.get_by_role("button", name="Clear 1 run").click()
        expect(page.locator("#batch .verdict")).to_contain_text("1 of 1 run cleared", timeout=60_000)
        look_at_disks()
        alarms = Alert.objects.filter(kind=AlertKind.DISK)
        wait_for(lambda: alarms.exclude(ended_at=None).exists(), "the end of the alarm")
        page.goto(live_server.url)
        expect(page.locator(".alarm")).to_have_count(0)
    assert not (lab.staging / RUN_PATH).exists()
    (letter,) = mails.letters
    assert letter["To"] == "admin@lab.example"
    assert "https://staging.lab.example/room/?root=" in str(letter.get_payload())
