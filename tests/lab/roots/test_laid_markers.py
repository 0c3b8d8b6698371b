"""Markers, on staging and on the NAS."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from cleanup.clears import protocol
from cleanup.clears.refusal import Refused
from cleanup.lab.roots.laid_markers import lay_on_this_host
from cleanup.management import supervisor
from cleanup.models import StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import handles
from cleanup.storage.nas import client, way_to_twin
from cleanup.storage.root_files import markers, reserve
from cleanup.storage.staging import walk
from tests.faults import means
from tests.faults.scene import is_root, set_scene
from tests.tools.lab import RUN_PATH, Lab

ANY = "11111111-2222-4333-8444-555555555555"


def marker_of(lab: Lab, root: StagingRoot) -> Path:
    return lab.staging / f".exlab-staging-{root.token}"


@pytest.mark.parametrize(
    ("name", "genuine"),
    [
        (f".exlab-staging-{ANY}", True),
        (f".exlab-staging-{ANY.upper()}", True),
        (".exlab-staging-", False),
        (".exlab-staging-notes", False),
        (f".exlab-staging-{{{ANY}}}", False),
        (f".exlab-staging-{ANY}.txt", False),
        (f".exlab-staging-{ANY.replace('-', '')}", False),
        (".exlab-staging-\udcff", False),
    ],
)
def test_only_a_uuid_makes_a_marker(name: str, genuine: bool) -> None:
    raw = name.encode("utf-8", "surrogateescape")
    assert markers.marks([raw, b".exlab-root", b"README.md"]) == (((raw,), ()) if genuine else ((), (raw,)))


class TestLaidAtTheStart:
    """As `up` and `worker` do it, for a root registered by a version without markers."""

    def test_where_the_token_is(self, lab: Lab, root: StagingRoot) -> None:
        marker_of(lab, root).unlink()
        said: list[str] = []
        for _ in range(2):
            supervisor.lay_markers(said.append)
            assert marker_of(lab, root).stat().st_size == 0
        assert said == []

    @pytest.mark.parametrize("spoil", ["another host", "another disk", "no token yet"])
    def test_nowhere_else(self, lab: Lab, root: StagingRoot, spoil: str) -> None:
        marker_of(lab, root).unlink()
        if spoil == "another host":
            StagingRoot.objects.update(host="elsewhere")
        elif spoil == "another disk":
            (lab.staging / ".exlab-root").write_text(str(uuid.uuid4()))
        else:
            StagingRoot.objects.update(token="")
        assert list(lay_on_this_host()) == []
        assert not list(lab.staging.glob(".exlab-staging-*"))

    def test_what_fails_is_told(self, lab: Lab, root: StagingRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(markers, "names_in", lambda directory: [])
        said: list[str] = []
        supervisor.lay_markers(said.append)
        assert said == [f"lab: {Reason.MARKER_NOT_SEEN.sentence} {marker_of(lab, root).name}"]

    @pytest.mark.skipif(not is_root(), reason="only root can mount")
    def test_on_a_full_disk_by_its_reserve(self, lab: Lab, root: StagingRoot) -> None:
        """A tmpfs without free inodes stands for a disk without room for a name."""
        disk = lab.base / "full"
        disk.mkdir()
        with means.mounted("-t", "tmpfs", "-o", "size=3m,nr_inodes=5", "tmpfs", disk):
            (disk / ".exlab-root").write_text(root.token)
            with handles.opened(handles.open_root(str(disk))) as directory:
                reserve.lay_reserve(directory)
                for number in range(2):
                    (disk / f"filler-{number}").touch()
                with pytest.raises(OSError, match="space"):
                    (disk / "one more").touch()
            StagingRoot.objects.update(path=str(disk))
            assert list(lay_on_this_host()) == []
            assert (disk / marker_of(lab, root).name).exists()


def test_a_clear_lays_what_is_missing(lab: Lab, root: StagingRoot, now: Any) -> None:
    scene = set_scene(lab, root, now)
    marker_of(lab, root).unlink()
    assert protocol.clear_run(scene.run, now=now) == (scene.files, scene.bytes)
    assert marker_of(lab, root).exists()


@pytest.mark.skipif(not is_root(), reason="only root can mount")
def test_a_clear_of_a_root_whose_top_may_not_be_written_goes_without(lab: Lab, root: StagingRoot, now: Any) -> None:
    """An admin registered it; the runs below can be cleared, and the other signs hold."""
    scene = set_scene(lab, root, now)
    marker_of(lab, root).unlink()
    with means.flagged(lab.staging, "i"):
        assert protocol.clear_run(scene.run, now=now) == (scene.files, scene.bytes)
    assert not marker_of(lab, root).exists()


def test_markers_are_no_strays(lab: Lab, root: StagingRoot) -> None:
    (lab.staging / f".exlab-nas-{ANY}").touch()
    assert marker_of(lab, root).exists()
    with handles.opened(handles.open_root(str(lab.staging))) as directory:
        assert [sight.path for sight in walk.walk(directory) if ".exlab" in sight.path] == []


class TestAskedOfTheNas:
    def test_discovery_lists_a_folder_once_a_minute_and_a_proof_each_time(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.run()
        clock = [1000.0]
        monkeypatch.setattr(way_to_twin.time, "monotonic", lambda: clock[0])
        way = way_to_twin.Ways(str(lab.nas))
        with handles.opened(handles.open_root(str(lab.nas))) as nas_root:
            twin = RUN_PATH.encode()
            assert way.ask(nas_root, twin, recent=True) == ()
            (lab.nas / f".exlab-staging-{ANY}").touch()
            assert way.ask(nas_root, twin, recent=True) == ()
            with pytest.raises(markers.IsStaging):
                way.ask(nas_root, twin, recent=False)
            (lab.nas / f".exlab-staging-{ANY}").unlink()
            assert way.ask(nas_root, twin, recent=False) == ()
            (lab.twin().parent / f".exlab-staging-{ANY}").touch()
            clock[0] += way_to_twin.KEPT_SECONDS
            with pytest.raises(markers.IsStaging):
                way.ask(nas_root, twin, recent=True)

    def test_a_known_marker_that_no_listing_shows(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        lab.run()
        (lab.twin().parent / f".exlab-staging-{ANY}").touch()
        monkeypatch.setattr(markers, "names_in", lambda directory: [])
        way = way_to_twin.Ways(str(lab.nas), f".exlab-staging-{ANY}".encode())
        with handles.opened(handles.open_root(str(lab.nas))) as nas_root, pytest.raises(markers.IsStaging):
            way.ask(nas_root, RUN_PATH.encode(), recent=False)

    def test_what_discovery_tells(self, lab: Lab, root: StagingRoot, now: Any) -> None:
        lab.run()
        lab.run(RUN_PATH.replace("14-32", "15-32"))
        (lab.nas / f".exlab-staging-{ANY}").touch()
        found = discovery.discover(root, now=now)
        assert found is not None
        detail = f".exlab-staging-{ANY} lies in the top of the NAS root"
        assert found.problems == [("", Reason.NAS_IS_STAGING, detail)]

    def test_an_instrument_s_own_nas_root_is_asked_like_the_other(self, lab: Lab, root: StagingRoot, now: Any) -> None:
        own = lab.base / "nas-of-one"
        (own / RUN_PATH).parent.mkdir(parents=True)
        token = str(uuid.uuid4())
        (own / ".exlab-root").write_text(token)
        scene = set_scene(lab, root, now)
        lab.twin().rename(own / RUN_PATH)
        StagingRoot.objects.update(instrument_nas={scene.run.equipment: {"path": str(own), "token": token}})
        scene.run.refresh_from_db()
        (own / f".exlab-staging-{ANY}").touch()
        assert refusal(scene.run, now) is Reason.NAS_IS_STAGING
        (own / f".exlab-staging-{ANY}").unlink()
        (lab.staging / f".exlab-nas-{token}").touch()
        assert refusal(scene.run, now) is Reason.NAS_IS_STAGING
        (lab.staging / f".exlab-nas-{token}").unlink()
        assert protocol.clear_run(scene.run, now=now) == (scene.files, scene.bytes)


def refusal(run: Any, now: Any) -> Reason:
    run = type(run).objects.with_root().get(pk=run.pk)
    with pytest.raises(Refused) as refused:
        protocol.clear_run(run, now=now)
    return refused.value.finding.reason


def test_a_folder_on_the_way_that_may_not_be_listed_is_no_obstacle(tmp_path: Path) -> None:
    """Read by an ordinary user, as by a service; root may list everything."""
    if is_root():
        pytest.skip("root may list everything")
    lab = Lab(tmp_path / "lab")
    lab.run()
    folder = lab.twin().parents[1]
    folder.chmod(0o311)
    (lab.nas / ".exlab-root").write_text(ANY)
    try:
        with client.NasReader(str(lab.nas), ANY, staging=ANY) as reader:
            assert reader.read(RUN_PATH, with_bytes=False).files
    finally:
        folder.chmod(0o755)
