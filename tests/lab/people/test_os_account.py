"""The account that typed a command is recorded beside `--user`."""

import os
import pwd
import subprocess
from typing import Any

import pytest
from django.contrib.auth.models import User

from cleanup.lab.people import os_account
from cleanup.models import ClearAttempt, Hold, LedgerEntry, RetentionPolicy, Run, Sweep
from cleanup.runs import discovery
from tests.tools import warm
from tests.tools.command_line import Done, Manage
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine


RUN_PATH = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"


@pytest.fixture
def known(lab: Lab, root: Any, now: Any) -> Lab:
    lab.run(RUN_PATH)
    discovery.discover(root, now=now)
    User.objects.create_user("ada")
    return lab


@pytest.fixture
def manage(subprocess_env: dict[str, str]) -> Manage:
    def run(*arguments: str) -> Done:
        command = ["manage.py", *arguments]
        process = warm.python(command, subprocess_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    return run


@pytest.fixture
def mine() -> str:
    return f"{pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"


def test_the_account_is_the_kernels_and_what_sudo_says_is_said_to_be_so(mine: str, monkeypatch: Any) -> None:
    assert os_account.account({"LOGNAME": "bob", "USER": "bob"}) == mine
    assert os_account.account({"SUDO_USER": "bob"}) == f"{mine}, by sudo from bob (as SUDO_USER says)"
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)  # as in a container that runs by a number
    assert os_account.account({}) == "uid 3999999999"
    assert os_account.name() == "uid 3999999999"


def test_a_clear_in_another_name_tells_who_typed_it(known: Lab, manage: Manage, mine: str, client: Any) -> None:
    """Takes 2 s: three real commands."""
    assert manage("clear", RUN_PATH, "--user", "ada", "--reason", "full").status == 0
    (attempt,) = ClearAttempt.objects.all()
    assert (attempt.actor, attempt.typed_by) == ("ada", mine)
    assert {(entry.actor, entry.typed_by) for entry in LedgerEntry.objects.exclude(run=None)} == {("ada", mine)}
    audit = manage("audit", "--by", "operator", "--json").json
    assert [(one["operator"], one["account"], one["runs"]) for one in audit["typed_by"]] == [("ada", mine, 1)]
    assert f"ada, typed by {mine}: 1 run" in manage("audit", "--by", "operator").out
    client.force_login(User.objects.create_superuser("admin"))
    page = client.get(f"/runs/{Run.objects.get().pk}/").content.decode()
    assert page.count(f"typed by {mine}") >= 2  # in the ledger and with the attempt
    assert mine in client.get("/admin/cleanup/ledgerentry/").content.decode()


def test_holds_policies_and_passes_keep_it_too(known: Lab, manage: Manage, mine: str) -> None:
    """Takes 3 s: six real commands."""
    assert manage("hold", RUN_PATH, "--until", "2099-01-01", "--reason", "x", "--user", "ada").status == 1  # too far
    assert manage("hold", RUN_PATH, "--until", "2030-01-01", "--reason", "x", "--user", "ada").status == 0
    assert manage("release", RUN_PATH, "--user", "ada").status == 0
    (hold,) = Hold.objects.all()
    assert (hold.owner, hold.typed_by, hold.released_by, hold.released_typed_by) == ("ada", mine, "ada", mine)
    assert manage("set_policy", "--mode", "scheduled", "--retain-hours", "24", "--json").json["typed_by"] == mine
    assert manage("promote").status == 0
    assert set(RetentionPolicy.objects.values_list("typed_by", flat=True)) == {mine}
    assert manage("sweep", "--dry-run").status == 0
    assert Sweep.objects.get().typed_by == mine


def test_what_no_command_did_has_no_typist(known: Lab, policy: Any, now: Any) -> None:
    from cleanup.sweeps import all_roots

    policy(mode="scheduled", retain_hours=24, rehearse=False)
    all_roots.sweep(now=now, timed=True)
    assert set(LedgerEntry.objects.values_list("typed_by", flat=True)) == {""}
    assert os_account.current() == ""
