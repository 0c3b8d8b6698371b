"""What may lie in `.exlab-wizard`."""

import os

import pytest

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.staging import unexpected
from tests.storage.staging.trees import HOUR_NS, NOW_NS, scan, write
from tests.tools.lab import Lab, linked_lock

pytestmark = pytest.mark.one_engine(by="function")


class TestUnexpectedMetadata:
    def test_the_wizards_own_files_are_known(self, lab: Lab) -> None:
        run = lab.run()
        for name in ("readme_fields.json", "readme_fields.json.lock", "sync_state.json", "sync_state.json.lock"):
            write(run / ".exlab-wizard" / name)
        for name in ("wizard.another-host.log", "wizard.another-host.log.1", "wizard.labpc-04.log.12"):
            write(run / ".exlab-wizard" / name)
        assert unexpected.problems(scan(run), NOW_NS) == []

    @pytest.mark.parametrize(
        "name",
        [
            "notes.txt",
            "ingest.json.bak",
            "Ingest.json",
            "ingest.json\n",
            "wizard.log",
            "wizard.labpc-04.log.old",
            "notes.json.lock",
            "ingest.json.lock.lock",
            "ingest.json.tmp",
            "ingest.json.a1b2c3d4.tmp~",
            "folder/ingest.json",
            "wizard.x/a.log",
        ],
    )
    def test_anything_else_is_not(self, name: str, lab: Lab) -> None:
        run = lab.run()
        write(run / ".exlab-wizard" / name)
        found = unexpected.problems(scan(run), NOW_NS)
        assert found
        assert {problem.reason for problem in found} == {"unexpected_metadata"}

    @pytest.mark.parametrize(("age", "reason"), [(HOUR_NS - 1, ["writer_active"]), (HOUR_NS, [])])
    @pytest.mark.parametrize("of", ["ingest.json", "checksums.sha256"])
    def test_a_draft_is_left_over_once_it_is_an_hour_old(self, lab: Lab, of: str, age: int, reason: list[str]) -> None:
        run = lab.run()
        draft = write(run / f".exlab-wizard/{of}.k3_x9a0b.tmp", b"{")
        os.utime(draft, ns=(NOW_NS - age, NOW_NS - age))
        assert [problem.reason for problem in unexpected.problems(scan(run), NOW_NS)] == reason

    @pytest.mark.parametrize(("age", "reason"), [(HOUR_NS - 1, {"writer_active"}), (HOUR_NS, set())])
    def test_a_linked_lock_is_left_over_once_it_is_an_hour_old(self, lab: Lab, age: int, reason: set[str]) -> None:
        run = lab.run()
        link = linked_lock(run)
        for path in (link, *link.parents[:3]):
            os.utime(path, ns=(NOW_NS - age, NOW_NS - age))
        assert {problem.reason for problem in unexpected.problems(scan(run), NOW_NS)} == reason

    @pytest.mark.parametrize("more", ["notes.txt", "0123456789abcdef/notes.txt", "0123456789abcdef/lock.db", "lock.db"])
    def test_anything_else_beside_a_linked_lock_is_not(self, lab: Lab, more: str) -> None:
        run = lab.run()
        link = linked_lock(run)
        other = write(link.parents[2] / more)
        for path in (link, *link.parents[:3], other, other.parent):
            os.utime(path, (1, 1))
        found = unexpected.problems(scan(run), NOW_NS)
        assert [problem.detail for problem in found] == [str(other.relative_to(run))]

    def test_a_linked_lock_with_bytes_in_it_is_not(self, lab: Lab) -> None:
        run = lab.run()
        link = linked_lock(run)
        link.write_bytes(b"SQLite format 3")
        for path in (link, *link.parents[:3]):
            os.utime(path, (1, 1))
        assert {problem.reason for problem in unexpected.problems(scan(run), NOW_NS)} == {"unexpected_metadata"}

    def test_a_folder_named_like_a_known_file_is_not(self, lab: Lab) -> None:
        run = lab.run()
        (run / ".exlab-wizard/wizard.x.log").mkdir()
        assert unexpected.problems(scan(run), NOW_NS) == [
            Finding(Reason.UNEXPECTED_METADATA, ".exlab-wizard/wizard.x.log")
        ]

    def test_there_may_be_four_mebibytes_apart_from_the_manifest(self, lab: Lab) -> None:
        run = lab.run()
        metadata = run / ".exlab-wizard"
        os.truncate(metadata / "checksums.sha256", 1 << 30)
        others = sum(path.stat().st_size for path in metadata.iterdir() if path.name != "checksums.sha256")
        with (metadata / "wizard.big.log").open("wb") as log:
            log.truncate(unexpected.MAX_METADATA_BYTES - others)
        assert unexpected.problems(scan(run), NOW_NS) == []
        os.truncate(metadata / "wizard.big.log", unexpected.MAX_METADATA_BYTES - others + 1)
        assert [problem.reason for problem in unexpected.problems(scan(run), NOW_NS)] == ["unexpected_metadata"]
