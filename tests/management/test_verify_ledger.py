"""The command `verify_ledger`: exit status, JSON and words."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from cleanup.ledger import anchors, book
from cleanup.management.base import UsageError
from cleanup.models import LedgerEntry
from tests.ledger.book_rows import as_owner, cut, key_at, key_row, write_rows
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings: Any, tmp_path: Path) -> Path:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def ask(capsys: Any, *words: str) -> tuple[int, Any]:
    status = 0
    try:
        call_command("verify_ledger", *words)
    except SystemExit as ended:
        status = int(str(ended.code))
    said = capsys.readouterr().out
    return status, json.loads(said) if "--json" in words else said


def test_a_whole_ledger(lab: Lab, root: Any, now: datetime, capsys: Any) -> None:
    write_rows(now, 3)
    anchors.write(now=now)
    status, said = ask(capsys, "--json")
    head = book.head()
    assert (status, said["ok"], said["bad"], said["disagreements"], said["restored"]) == (0, True, None, [], [])
    assert (said["position"], said["sha256"], said["newest_agreeing"]) == (3, head.sha256, 3)
    assert [(one["read"], one["problem"]) for one in said["anchors"]] == [(1, None)] * 3
    status, said = ask(capsys)
    assert status == 0
    assert f"the chain is whole: 3 rows, it ends with {head.sha256}" in said
    assert f"{lab.nas}: 1 anchors" in said


def test_a_bad_row_is_named(now: datetime, capsys: Any) -> None:
    write_rows(now, 3)
    as_owner("UPDATE cleanup_ledgerentry SET actor = 'eve' WHERE id = %s", key_at(2))
    status, said = ask(capsys, "--json")
    assert (status, said["ok"]) == (1, False)
    assert said["bad"] == {
        "fault": "edited",
        "position": 2,
        "entry": key_at(2),
        "detail": "the row was changed after it was written",
    }
    status, said = ask(capsys)
    assert status == 1
    assert f"First bad row at position 2 (row {key_at(2)}): edited" in said
    with pytest.raises(CommandError, match="Nothing was declared: the ledger is not what was written"):
        call_command("verify_ledger", "--restored", "--reason", "x")


def test_a_restored_database_is_told_until_it_is_declared(
    lab: Lab, root: Any, now: datetime, data: Path, capsys: Any, django_user_model: Any
) -> None:
    django_user_model.objects.create_user("ada")
    write_rows(now, 5)
    anchors.write(now=now)
    as_owner("DELETE FROM cleanup_ledgeranchor")  # the backup is older than these
    cut(2, head=True)
    status, said = ask(capsys)
    assert status == 1
    assert "anchor at position 5" in said and "the tail was cut, or the database was restored" in said
    status, said = ask(capsys, "--restored", "--reason", "the disk died", "--user", "ada", "--json")
    assert (status, said["ok"]) == (0, True)
    (gap,) = said["restored"]
    assert (gap["position"], gap["by"], gap["reason"], gap["stood"]) == (5, "ada", "the disk died", 2)
    assert {one["declared_by"] for one in said["disagreements"]} == {gap["entry"]}
    status, said = ask(capsys)
    assert status == 0
    assert "ada declared a restored database" in said
    assert LedgerEntry.objects.get(kind="restored").run is None
    with pytest.raises(CommandError, match="the chain lacks no anchor"):
        call_command("verify_ledger", "--restored", "--reason", "again")


def test_anchors_that_are_gone_from_a_place_are_a_fault_until_they_are_declared(
    now: datetime, data: Path, tmp_path: Path, capsys: Any
) -> None:
    for hour in range(2):
        write_rows(now, 2)
        anchors.write(now=now + timedelta(hours=hour))
    kept = data / "ledger-anchors"
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(lines[1])
    status, said = ask(capsys, "--json")
    assert (status, said["ok"]) == (1, False)
    assert [(one["read"], one["missing"]) for one in said["anchors"]] == [(1, 1), (2, 0)]
    text = ask(capsys)[1]
    assert "1 anchors, 1 that were written there are missing" in text and "--anchors-lost --reason TEXT" in text
    # A copy of what was moved away is as good.
    (tmp_path / "copied").write_bytes(lines[0])
    assert ask(capsys, "--anchors", str(tmp_path / "copied"))[0] == 0
    status, said = ask(capsys, "--anchors-lost", "--reason", "the disk died", "--json")
    assert (status, said["ok"], [one["missing"] for one in said["anchors"]]) == (0, True, [0, 0])
    (loss,) = said["anchors_lost"]
    assert (loss["place"], loss["missing"], loss["reason"]) == ("data directory", 1, "the disk died")
    with pytest.raises(CommandError, match="no anchor is missing"):
        call_command("verify_ledger", "--anchors-lost", "--reason", "again")
    # The declaration excuses nothing that was written later.
    book.write(key_row(now))
    anchors.write(now=now + timedelta(hours=2))
    kept.write_bytes(b"")
    status, said = ask(capsys, "--json")
    assert (status, [one["missing"] for one in said["anchors"]]) == (1, [3, 0])
    assert "declared on" in ask(capsys)[1]


@pytest.mark.parametrize(
    "in_its_place", [Path.mkdir, lambda path: path.symlink_to("elsewhere")], ids=["folder", "link"]
)
def test_what_lies_in_the_place_of_the_anchors_hides_no_loss(
    now: datetime, data: Path, capsys: Any, in_its_place: Callable[[Path], None]
) -> None:
    kept = data / "ledger-anchors"
    write_rows(now, 2)
    anchors.write(now=now)
    kept.rename(data / "elsewhere")
    in_its_place(kept)
    status, said = ask(capsys, "--json")
    assert (status, said["anchors"][0]["missing"], bool(said["anchors"][0]["problem"])) == (1, 1, True)
    assert f"{kept}: 0 anchors, 1 that were written there are missing; not read (" in ask(capsys)[1]


def test_a_declaration_excuses_nothing_younger_whatever_the_clock_said(now: datetime, data: Path, capsys: Any) -> None:
    """One anchor was written while the host's clock was years ahead."""
    kept = data / "ledger-anchors"
    write_rows(now, 2)
    anchors.write(now=now + timedelta(days=4000))
    kept.unlink()
    assert ask(capsys, "--anchors-lost", "--reason", "the disk died", "--json")[0] == 0
    for hour in range(2):
        book.write(key_row(now))
        anchors.write(now=now + timedelta(hours=hour))
    kept.unlink()
    status, said = ask(capsys, "--json")
    # Those two, and the one that was written with the declaration.
    assert (status, [one["missing"] for one in said["anchors"]]) == (1, [3, 0])
    status, said = ask(capsys, "--anchors-lost", "--reason", "again", "--json")
    assert (status, [one["missing"] for one in said["anchors_lost"]]) == (0, [1, 3])


def test_a_place_that_cannot_be_read_or_is_no_place_any_more_is_no_loss(
    lab: Lab, root: Any, now: datetime, data: Path, capsys: Any
) -> None:
    write_rows(now, 2)
    anchors.write(now=now)
    (lab.nas / ".exlab-root").rename(lab.nas / "moved")
    status, said = ask(capsys, "--json")
    assert (status, [one["missing"] for one in said["anchors"]]) == (0, [0, 0, 0])
    assert "nas_not_mounted" in said["anchors"][1]["problem"]
    type(root).objects.filter(pk=root.pk).update(nas_path="", nas_token="")
    status, said = ask(capsys, "--json")
    assert (status, len(said["anchors"])) == (0, 3)
    assert said["anchors"][1]["place"] == str(lab.nas)
    assert "uses it any more" in said["anchors"][1]["problem"]
    # A replaced data directory has none of them.
    (data / "ledger-anchors").unlink()
    status, said = ask(capsys, "--json")
    assert (status, said["anchors"][0]["missing"]) == (1, 1)
    assert said["newest_agreeing"] == 0, "only the database is left, and it does not vouch for itself"


def test_a_copied_file_of_anchors_counts_too(now: datetime, data: Path, tmp_path: Path, capsys: Any) -> None:
    write_rows(now, 5)
    anchors.write(now=now)
    copy = tmp_path / "copied"
    copy.write_bytes((data / "ledger-anchors").read_bytes() + b"torn\n")
    (data / "ledger-anchors").unlink()
    as_owner("DELETE FROM cleanup_ledgeranchor")
    cut(2, head=True)
    assert ask(capsys)[0] == 0, "nothing is left that knows better"
    status, said = ask(capsys, "--anchors", str(copy), "--json")
    assert status == 1
    assert [(one["position"], one["how"], one["place"]) for one in said["disagreements"]] == [(5, "cut", str(copy))]
    assert said["anchors"][0]["unreadable"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--restored"],
        ["--reason", "x"],
        ["--user", "ada"],
        ["--restored", "--reason", " "],
        ["--restored", "--reason", "x", "--user", "unknown"],
        ["--anchors", "/nowhere/at/all"],
        ["--anchors-lost"],
    ],
    ids=" ".join,
)
def test_bad_usage(words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        call_command("verify_ledger", *words)
    assert refused.value.returncode == 2


def test_a_ledger_without_a_head(capsys: Any) -> None:
    as_owner("DELETE FROM cleanup_ledgerhead")
    status, said = ask(capsys, "--json")
    assert (status, said["bad"]["fault"], said["installation"]) == (1, "head", None)
