"""The people of a run are told of its files that were set aside."""

from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail

from cleanup.models import AsideState, SetAside, StagingRoot
from cleanup.runs.set_aside import set_aside_mails
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db


def test_each_is_told_once_and_not_who_did_it(now: datetime, settings: Any) -> None:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent/lab")
    run = run_row(root, "F/P/Runs/Run_2026-04-10T00-00", first_seen_at=now, people=["ada", "bo", "eve"])
    for name in ("ada", "bo", "cy", "eve"):
        user = User.objects.create_user(name, email=f"{name}@lab.example")
        if name != "eve":  # she may not see the run
            user.groups.add(Group.objects.get(name="viewer"))
    for number, state in enumerate((AsideState.DONE, AsideState.DONE, AsideState.INTENT)):
        told = {"run_path": run.run_path, "path": f"late {number}.txt", "raw": b"x", "key": f"{number:064}"}
        times = {"at": now, "state_at": now}
        SetAside.objects.create(
            run=run, size=1, marks="1", state=state, host="lab-pc", actor="bo", note="a note", **told, **times
        )
    assert set_aside_mails.tell(now) == 0 and not mail.outbox, "no mail server is set up"
    settings.EXLAB_EMAIL = "smtp://mail.example"
    assert [set_aside_mails.tell(now) for _twice in range(2)] == [1, 0]
    (letter,) = mail.outbox
    assert letter.to == ["ada@lab.example"]
    assert "late 0.txt" in letter.body and "late 1.txt" in letter.body and "late 2.txt" not in letter.body
    assert "By bo: a note" in letter.body
