"""Desktop files of Macs, Windows or the NAS do not keep a run."""

import os
import re
import subprocess
import tarfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.storage.staging import desktop_files, fences
from tests.tools.lab import METADATA, Lab, census, read_sync_state, some_files, touch, write_sync_state

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

STORE = b"Bud1" * 100
BESIDE = desktop_files.APPLE_DOUBLE + b"\0\2\0\0Mac OS X        "


def lay(path: Path, content: bytes = STORE, *, at: datetime | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if at is not None:
        touch(path, at)


def cleared(root: StagingRoot, now: datetime) -> dict[str, bytes]:
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get()
    path = Path(root.path) / run.run_path
    counted = census(path)
    assert clear_run(run, now=now, actor="ada") == counted
    assert not path.exists()
    attempt = ClearAttempt.objects.get()
    with tarfile.open(opening.data_dir().tombstone_path(attempt.pk.hex)) as archive:
        kept = [member for member in archive.getmembers() if member.name.startswith("desktop/")]
        return {member.name.removeprefix("desktop/"): archive.extractfile(member).read() for member in kept}  # type: ignore[union-attr]


def refusal(root: StagingRoot, now: datetime) -> Refused:
    discovery.discover(root, now=now)
    with pytest.raises(Refused) as refused:
        clear_run(Run.objects.with_root().get(), now=now)
    return refused.value


def test_what_came_after_the_verification_is_kept_whole_and_goes(lab: Lab, root: StagingRoot, now: datetime) -> None:
    """Written this minute: neither quiet nor age is asked of files that are no data."""
    path = lab.run()
    laid = {
        ".DS_Store": STORE,
        "tiles/thumbs.DB": b"old",
        "tiles/desktop.ini": b"[ViewState]",
        "tiles/._t_0000.tif": BESIDE,
        "tiles/@eaDir/t_0000.tif@SynoEAStream": b"attributes",
        f"{METADATA}/.DS_Store": b"here too",
        f"{METADATA}/@eaDir/x": b"and here",
    }
    for name, content in laid.items():
        lay(path / name, content, at=now)
    assert cleared(root, now) == laid
    digests = opening.data_dir().read_digests(ClearAttempt.objects.get().pk.hex)
    assert {os.fsencode(name) for name in laid} <= digests.keys()


def test_an_admin_gets_them_back_by_the_way_that_the_readme_tells(
    lab: Lab, root: StagingRoot, now: datetime, tmp_path: Path, client: Client, admin_user: User
) -> None:
    path = lab.run()
    odd = b"tiles/@eaDir/\xff \n.tif"
    laid = {b"Thumbs.db": b"old", odd: bytes(range(256)), b"tiles/._t_0000.tif": BESIDE}
    for name, content in laid.items():
        lay(path / os.fsdecode(name), content, at=now)
    record = (path / METADATA / "creation.json").read_bytes()
    cleared(root, now)
    client.force_login(admin_user)
    page = client.get(f"/runs/{Run.objects.get().pk}/receipt/").content.decode()
    (archive,) = re.findall(r"tombstones/[0-9a-f]{32}[.]tar[.]gz", page)
    subprocess.run(["tar", "-xzf", opening.data_dir().path + "/" + archive, "-C", tmp_path], check=True)
    assert {name: (tmp_path / "desktop" / os.fsdecode(name)).read_bytes() for name in laid} == laid
    assert (tmp_path / "metadata/creation.json").read_bytes() == record


@pytest.mark.parametrize("side", ["staging", "NAS"])
@pytest.mark.parametrize("what", ["rewritten", "gone"])
def test_a_listed_one_that_has_changed_on_either_side(
    lab: Lab, root: StagingRoot, now: datetime, side: str, what: str
) -> None:
    path = lab.run(files=some_files() | {"tiles/.DS_Store": STORE})
    changed = (path if side == "staging" else lab.twin()) / "tiles/.DS_Store"
    changed.unlink()
    if what == "rewritten":
        lay(changed, b"other")
    expected = {("staging", "rewritten"): {"tiles/.DS_Store": b"other"}, ("staging", "gone"): {}}
    assert cleared(root, now) == expected.get((side, what), {"tiles/.DS_Store": STORE})


def test_by_the_other_record_too(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run(files=some_files() | {"tiles/Thumbs.db": b"seen"}, record="sync_state")
    said = read_sync_state(path)
    said["files"]["._plate.raw"] = {**said["files"]["tiles/Thumbs.db"], "verified_at": None}
    said["files"]["plate.raw"] = said["files"].pop("stack.ome.xml")
    (path / "stack.ome.xml").rename(path / "plate.raw")
    (lab.twin() / "stack.ome.xml").rename(lab.twin() / "plate.raw")
    write_sync_state(path, said)
    (path / "tiles/Thumbs.db").unlink()
    lay(path / "tiles/.DS_Store", at=now - timedelta(days=1))
    discovery.discover(root, now=now - timedelta(days=1))
    assert cleared(root, now) == {"tiles/.DS_Store": STORE}


def test_one_that_is_no_apple_double_is_data(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lay(lab.run() / "tiles/._t_0000.tif", b"II*\0 pixels", at=now - timedelta(days=1))
    assert refusal(root, now).finding.reason is Reason.NOT_IN_MANIFEST


@pytest.mark.parametrize("name", ["$RECYCLE.BIN/S-1-5-21-1/$R0001.tif", "System Volume Information/plate.raw"])
def test_in_a_run_the_folders_of_systems_are_data(lab: Lab, root: StagingRoot, now: datetime, name: str) -> None:
    """A person may have deleted a file of the run into them, so their content is kept."""
    lay(lab.run() / name, b"pixels", at=now - timedelta(days=1))
    finding = refusal(root, now).finding
    assert finding.reason is Reason.NOT_IN_MANIFEST and name in finding.detail


def test_a_large_one_is_named_as_such_and_stays(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lay(lab.run() / "Thumbs.db", bytes(desktop_files.MAX_FILE_BYTES + 1), at=now - timedelta(days=1))
    finding = refusal(root, now).finding
    assert finding.reason is Reason.NOT_IN_MANIFEST and "Thumbs.db" in finding.detail and "larger" in finding.detail


def test_a_file_that_is_still_open_is_a_writer(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run()
    lay(path / "tiles/.nfs00000000018a2c4f00000001", at=now - timedelta(days=1))
    finding = refusal(root, now).finding
    assert finding.reason is Reason.WRITER_ACTIVE and ".nfs0000" in finding.detail
    (path / "tiles/.nfs00000000018a2c4f00000001").rename(path / METADATA / ".fuse_hidden0000000a00000001")
    finding = refusal(root, now + timedelta(hours=1)).finding
    assert finding.reason is Reason.WRITER_ACTIVE and ".fuse_hidden" in finding.detail


def test_one_that_comes_under_the_fence_still_stops_the_clear(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.run()
    discovery.discover(root, now=now)

    fence = fences.fence

    def lay_and_fence(parent: int, leaf: bytes, name: bytes) -> None:
        lay(path / ".DS_Store")
        fence(parent, leaf, name)

    monkeypatch.setattr(fences, "fence", lay_and_fence)
    with pytest.raises(Refused) as refused:
        clear_run(Run.objects.with_root().get(), now=now)
    assert refused.value.finding.reason is Reason.CHANGED_SINCE_VERIFICATION
    assert (path / ".DS_Store").read_bytes() == STORE


def test_folders_of_systems_among_the_runs_are_no_orphans(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lab.run()
    folder = lab.staging / "CONFOCAL_01/PROJ-0042/Runs"
    for name in ("$RECYCLE.BIN/S-1-5-21-1/desktop.ini", "System Volume Information/IndexerVolumeGuid", "#recycle/x"):
        lay(lab.staging / name)
    for name in ("@eaDir/SYNOINDEX", "Thumbs.db", "lost+found/1"):
        lay(folder / name)
    lay(lab.staging / "desktop.ini")
    lay(lab.staging / "CONFOCAL_01/notes.txt")
    discovery.discover(root, now=now)
    for later in (0, 2):
        orphans.inspect(root, now=now + timedelta(days=365 * 10, hours=later))
    assert [orphan.path for orphan in orphans.listed()] == ["CONFOCAL_01/notes.txt"]


def test_the_page_says_what_they_are(lab: Lab, root: StagingRoot, now: datetime, client, admin_user) -> None:
    lay(lab.run() / ".DS_Store", at=now)
    discovery.discover(root, now=now)
    client.force_login(admin_user)
    page = client.get(f"/runs/{Run.objects.get().pk}/").content.decode()
    assert "files of desktops or NAS systems" in page and "not_in_manifest" not in page
