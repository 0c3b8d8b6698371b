"""The command that compares all, its words and its JSON."""

import json
import shutil
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Reconciliation, Run
from cleanup.monitoring.reconciliation.findings import Mismatch, MismatchKind
from tests.monitoring.reconciliation.scene import FIRST, Place
from tests.monitoring.reconciliation.scene import place as place

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def call(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("reconcile", *arguments, stdout=out, stderr=StringIO())
    except SystemExit as done:
        return int(done.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def test_the_json_has_all_and_one_next_step_each(place: Place) -> None:
    place.clear()
    shutil.move(place.lab.twin(), place.lab.base / "elsewhere")
    status, out = call("--json")
    said = json.loads(out)
    assert status == 1
    assert set(said) == {
        *("host", "root", "started_at", "ended_at", "runs", "asked", "not_asked", "waiting"),
        *("counts", "mismatches", "recovered", "problems"),
    }
    assert (said["root"], said["runs"], said["asked"], said["counts"]) == ("lab", 2, 3, {"nas_missing": 1})
    (told,) = said["mismatches"]
    assert (told["kind"], told["root"], told["run_path"]) == ("nas_missing", "lab", FIRST)
    assert (told["run"], told["command"]) == (Run.objects.get(run_path=FIRST).pk, f"why {FIRST} --root lab")
    assert told["sentence"].endswith(".") and told["next_step"].endswith(".")
    assert Reconciliation.objects.get().counts == {"nas_missing": 1}
    status, text = call()
    assert (status, text.count(FIRST)) == (1, 3)
    assert text.strip().endswith("3 copies asked for, 0 not told of, 0 waiting")
    # Without the NAS what it said before stays.
    assert call("--without-nas")[0] == 1
    shutil.move(place.lab.base / "elsewhere", place.lab.twin())
    assert call("--limit", "2")[1].strip().endswith("2 copies asked for, 0 not told of, 1 waiting")
    assert call()[0] == 0


def test_one_root_is_not_shown_for_the_whole_host(place: Place) -> None:
    assert call("--root", "lab")[0] == 0
    assert not Reconciliation.objects.exists()
    assert call("--root", "other")[0] == 2
    assert call("--limit", "0")[0] in (1, 2)


def test_a_second_pass_says_so(place: Place) -> None:
    with opening.data_dir().lock("reconciliation") as free:
        assert free
        assert call() == (1, "Another reconciliation is under way on this host.")


def test_a_clear_that_only_its_tombstone_tells_is_applied(place: Place) -> None:
    """As after a restore; `test_recovering` has the cases."""
    place.clear()
    ClearAttempt.objects.filter(run__run_path=FIRST)
    status, out = call("--apply", "--json")
    assert (status, json.loads(out)["recovered"]) == (0, [])


@pytest.mark.parametrize("kind", list(MismatchKind))
def test_each_kind_names_a_command_that_is_there(kind: MismatchKind) -> None:
    assert kind.sentence.endswith((".", ":")) and kind.step.endswith(".")
    command = Mismatch(kind, "a lab", "A/B/Runs/Run_2026-04-17T14-32", 1).command
    if not command:
        assert kind.step.startswith("Leave it")
        return
    name, *given = command.replace("a lab", "lab").replace("'lab'", "lab").split()
    assert name in get_commands()
    parser: Any = load_command_class("cleanup", name).create_parser("manage.py", name)
    parser.parse_args(given)
    assert "--root" not in Mismatch(kind).command
