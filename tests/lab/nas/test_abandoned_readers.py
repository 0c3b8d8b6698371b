"""At most three abandoned NAS readers on a host."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas.abandoned_readers import MOST, AbandonedReaders
from cleanup.lab.nas.nas_breaker import GuardedReader
from cleanup.models import NasBreaker
from cleanup.storage.nas import client
from cleanup.storage.nas.processes import Process, process_of

pytestmark = pytest.mark.django_db

TOKEN = "11111111-2222-4333-8444-555555555555"


class Asked:
    given_up = False
    times = 0

    def present(self, twins: list[str]) -> list[str]:
        self.times += 1
        return twins


@pytest.fixture
def children() -> Iterator[list["subprocess.Popen[bytes]"]]:
    with ExitStack() as stack:
        started = []
        for _ in range(MOST):
            child = stack.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
            stack.callback(child.kill)
            started.append(child)
        yield started


def process(child: "subprocess.Popen[bytes]") -> Process:
    found = process_of(child.pid)
    assert found is not None
    return found


def test_after_three_no_process_of_the_host_asks_until_one_has_ended(
    children: list["subprocess.Popen[bytes]"], time_machine: Any
) -> None:
    for child in children:
        assert AbandonedReaders(TOKEN).may_ask_again()
        AbandonedReaders(TOKEN).note(process(child))
    asked = Asked()
    with pytest.raises(client.NasError, match="nas_timeout: 3 reading processes still hang in it"):
        GuardedReader(asked, TOKEN).present([])  # type: ignore[arg-type]
    assert asked.times == 0
    breaker = NasBreaker.objects.get(host=settings.EXLAB_HOST, token=TOKEN)
    assert breaker.open_until is not None
    assert breaker.open_until > timezone.now()
    GuardedReader(asked, "another NAS").present([])  # type: ignore[arg-type]

    children[0].kill()
    children[0].wait()
    time_machine.move_to(breaker.open_until)
    GuardedReader(asked, TOKEN).present([])  # type: ignore[arg-type]
    assert asked.times == 2
    AbandonedReaders(TOKEN).note(process(children[1]))
    breaker.refresh_from_db()
    assert len(breaker.abandoned) == MOST, "the one that has ended is forgotten"


def test_one_that_was_noted_by_the_same_reader_counts_at_once(children: list["subprocess.Popen[bytes]"]) -> None:
    abandoned = AbandonedReaders(TOKEN)
    answers = []
    for child in children:
        abandoned.note(process(child))
        answers.append(abandoned.may_ask_again())
    assert answers == [True, True, False]
