"""What anchors tell of a chain that was cut, written anew, or restored from a backup."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from cleanup.ledger import anchor_sources, anchors, book, restores, verification
from cleanup.ledger.anchor_sources import AnchorSource
from cleanup.ledger.anchors import Anchor
from cleanup.ledger.restores import Disagrees, NoRestore, NothingLacks, RestoreGap
from cleanup.models import LedgerEntry
from tests.ledger.book_rows import chain_anew, cut, key_row, set_entry, write_rows

pytestmark = pytest.mark.django_db


class Kept:
    """Anchors that were written down outside of the database, one after each few rows."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.lines: list[str] = []

    def write(self, rows: int = 1) -> Anchor:
        book.write(*(key_row(self.now, number) for number in range(rows)))
        self.now += timedelta(hours=1)
        head = book.head()
        anchor = Anchor(str(head.installation), head.position, head.sha256, self.now, "labpc")
        self.lines.append(anchor.line)
        return anchor

    def source(self) -> AnchorSource:
        return anchor_sources.of_text("the NAS", "\n".join(self.lines))

    def anchors(self) -> list[Anchor]:
        return anchors.parse("\n".join(self.lines))[0]

    def compare(self) -> restores.ComparedAnchors:
        return restores.compare([self.source()])

    def undeclared(self) -> list[tuple[int, str]]:
        return [(one.anchor.position, one.how) for one in self.compare().undeclared]

    def declare(self) -> RestoreGap:
        self.now += timedelta(hours=1)
        return restores.declare(
            self.compare(), actor="ada", reason="the disk died; we\ntook last night's", now=self.now
        )


@pytest.fixture
def kept(now: datetime, settings: Any, tmp_path: Any) -> Kept:
    """Anchors at 3, 6, 9 and 12."""
    settings.EXLAB_DATA_DIR = tmp_path
    kept = Kept(now)
    for _ in range(4):
        kept.write(3)
    return kept


@pytest.fixture
def by_owner() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def restore(position: int) -> None:
    """As a backup does that was made when the chain stood there."""
    cut(position, head=True)
    # Sequences and triggers come back with it; what is written next is in a transaction of its own.


def test_anchors_of_an_untouched_chain_agree(kept: Kept) -> None:
    compared = kept.compare()
    assert (compared.disagreements, compared.newest_agreeing) == ((), 12)
    with pytest.raises(NothingLacks):
        kept.declare()


def test_a_tail_that_was_cut_with_the_head_is_seen(kept: Kept, by_owner: None) -> None:
    cut(7, head=True)
    assert verification.verify().bad is None
    assert kept.undeclared() == [(9, Disagrees.CUT), (12, Disagrees.CUT)]
    assert kept.compare().newest_agreeing == 6


def test_a_chain_that_was_written_anew_to_its_end_is_seen(kept: Kept, by_owner: None) -> None:
    set_entry(5, actor="eve")
    chain_anew(5)
    assert verification.verify().bad is None
    assert kept.undeclared() == [(6, Disagrees.DIFFERS), (9, Disagrees.DIFFERS), (12, Disagrees.DIFFERS)]
    assert kept.compare().newest_agreeing == 3


def test_a_ledger_that_was_begun_anew_is_seen(kept: Kept) -> None:
    other = anchor_sources.of_text(
        "x", kept.lines[0].replace(str(book.head().installation), "0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    )
    (found,) = restores.compare([other]).undeclared
    assert found.how == Disagrees.OTHER_INSTALLATION


def test_a_restored_database_is_declared_and_later_anchors_are_unambiguous(kept: Kept) -> None:
    """The chain goes on from the backup, so its positions come a second time."""
    lost = kept.anchors()[2:]
    restore(7)
    for _ in range(2):
        kept.write(1)  # unnoticed, work goes on: anchors at 8 and 9 on the new branch
    assert kept.undeclared() == [(9, Disagrees.DIFFERS), (12, Disagrees.CUT)]
    gap = kept.declare()
    assert (gap.newest, gap.shared, gap.stood) == (Anchor(**{**vars(lost[1]), "host": ""}), 6, 9)
    assert (gap.actor, gap.why) == ("ada", "the disk died; we\ntook last night's")
    assert kept.undeclared() == []
    assert {one.declared for one in kept.compare().disagreements} == {gap}
    for _ in range(4):
        kept.write(1)  # beyond what was lost
    assert kept.undeclared() == []
    assert kept.compare().newest_agreeing == 14
    assert verification.verify().bad is None
    with pytest.raises(NothingLacks):
        kept.declare()


def test_what_is_cut_after_a_declared_restore_is_seen(kept: Kept) -> None:
    restore(7)
    kept.declare()
    kept.write(3)
    kept.write(3)
    cut(12, head=True)
    assert kept.undeclared() == [(14, Disagrees.CUT)]


def test_what_lies_before_a_declared_restore_is_not_excused(kept: Kept) -> None:
    restore(7)
    assert kept.declare().shared == 6
    set_entry(2, actor="eve")
    chain_anew(2)
    assert verification.verify().bad is None
    assert kept.undeclared() == [(3, Disagrees.DIFFERS), (6, Disagrees.DIFFERS)]


def test_a_second_restore_to_before_the_first_is_declared_too(kept: Kept) -> None:
    restore(7)
    kept.declare()
    kept.write(2)
    restore(4)  # takes the declaration away
    kept.write(1)
    assert [position for position, _how in kept.undeclared()] == [6, 9, 12, 10]
    gap = kept.declare()
    assert (gap.newest.position, gap.shared) == (10, 3), "the newest is the one written last"
    assert kept.undeclared() == []
    assert verification.verify().bad is None


def test_anchors_that_no_restore_explains_are_not_declared(kept: Kept) -> None:
    forged = kept.anchors()[0]
    kept.lines.insert(2, Anchor(**{**vars(forged), "sha256": "f" * 64, "at": forged.at + timedelta(hours=3)}).line)
    with pytest.raises(NoRestore, match="position 3 disagrees, and an older one at 9 agrees"):
        kept.declare()
    assert LedgerEntry.objects.filter(kind="restored").count() == 0


def test_the_declaration_is_written_down_at_once(kept: Kept, tmp_path: Any) -> None:
    restore(7)
    kept.declare()
    (line,), _unreadable = anchors.parse((tmp_path / "ledger-anchors").read_text())
    assert line.position == 8


def test_a_row_of_another_shape_declares_nothing(now: datetime) -> None:
    write_rows(now, 1)
    book.write(key_row(now, kind="restored", detail="lacks everything"))
    assert list(restores.gaps("x")) == []


def test_an_anchor_of_a_time_to_come_is_no_excuse_for_what_is_cut_until_then(kept: Kept) -> None:
    bogus = Anchor(str(book.head().installation), 900, "0" * 64, kept.now + timedelta(days=3650), "labpc")
    kept.lines.append(bogus.line)
    with pytest.raises(NoRestore, match="a time to come"):
        kept.declare()
    kept.write(3)
    cut(12, head=True)
    assert kept.undeclared() == [(900, Disagrees.CUT), (15, Disagrees.CUT)]


def test_what_the_database_says_of_itself_vouches_for_nothing(kept: Kept) -> None:
    """Its owner can write those anchors anew too; that they disagree still counts."""
    copies = AnchorSource("database", lambda: iter(kept.anchors()), vouches=False)
    del kept.lines[1:]
    compared = restores.compare([kept.source(), copies])
    assert (compared.newest_agreeing, list(compared.agreeing.positions)) == (3, [3, 3])
    kept.lines = kept.lines[:0]
    forged = Anchor(str(book.head().installation), 6, "f" * 64, kept.now, "labpc")
    compared = restores.compare([AnchorSource("database", lambda: iter([forged]), vouches=False)])
    assert ([one.how for one in compared.undeclared], compared.newest_agreeing) == ([Disagrees.DIFFERS], 0)
