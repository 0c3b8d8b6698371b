"""`import_wizard_config` writes nothing without `--apply`."""

import io
import uuid
from datetime import datetime
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management.base import CommandError

from cleanup.lab import policy_versions
from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.tools.command_line import Done, Manage
from tests.tools.lab import RUN_PATH, Lab, snapshot
from tests.tools.wizard_files import newer, older, rclone

pytestmark = pytest.mark.django_db


@pytest.fixture
def manage(db: None, capsys: pytest.CaptureFixture[str]) -> Manage:
    def run(*arguments: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        command = import_module("cleanup.management.commands.import_wizard_config").Command(stdout=out, stderr=err)
        command._called_from_command_line = True
        capsys.readouterr()
        try:
            options = vars(
                command.create_parser("manage.py", "import_wizard_config").parse_args([*map(str, arguments)])
            )
            command.execute(**{**options, "skip_checks": True})
        except CommandError as error:
            return Done(error.returncode, out.getvalue(), str(error))
        except SystemExit as error:
            return Done(int(error.code or 0), out.getvalue(), capsys.readouterr().err)
        return Done(0, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def built(lab: Lab) -> Lab:
    lab.run()
    equipment, _project, _kind, leaf = RUN_PATH.split("/")
    (lab.nas / equipment).rename(lab.base / "mirror")
    (lab.nas / equipment).mkdir()
    (lab.base / "mirror" / RUN_PATH.partition("/")[2]).rename(lab.nas / equipment / leaf)
    return lab


def written(lab: Lab, text: str) -> Path:
    path = lab.base / "config.yaml"
    path.write_text(text)
    return path


def nothing_is_registered() -> bool:
    return not StagingRoot.objects.exists() and not RetentionPolicy.objects.exists()


def two_instruments(lab: Lab, **keywords: str) -> str:
    return older(lab.staging, rclone("CONFOCAL_01", "lab/CONFOCAL_01"), rclone("FLOW_01", "lab/FLOW_01"), **keywords)


# Showing


def test_it_shows_and_writes_nothing(manage: Manage, built: Lab) -> None:
    path = written(built, two_instruments(built, mode="scheduled"))
    before = snapshot(built.base)
    done = manage(path)
    assert done.status == 0
    for words in (
        f"Imaging PC: {built.staging}",
        "equipment/leaf",
        "CONFOCAL_01: nas:lab/CONFOCAL_01 (\\\\nas01\\lab\\CONFOCAL_01), here unknown",
        "scheduled, kept for 24 h; rehearsed first",
        "Where is nas:lab mounted on this host? Say it with --nas-root PATH",
        "Nothing is written yet; --apply does it.",
    ):
        assert words in done.out
    assert done.err.count("A second cleaner") == 2
    assert nothing_is_registered()
    assert snapshot(built.base) == before


def test_it_shows_the_same_as_one_object(manage: Manage, built: Lab) -> None:
    path = written(built, two_instruments(built, hours="36"))
    answer = manage(path, "--nas-root", built.nas, "--json").json
    assert answer.pop("warnings")[0].startswith("A second cleaner: nas_cleanup")
    assert answer == {
        "config": str(path),
        "applied": False,
        "name": "Imaging PC",
        "host": settings.EXLAB_HOST,
        "path": str(built.staging),
        "nas_root": str(built.nas),
        "nas_layout": "equipment/leaf",
        "instrument_nas": {},
        "policy": {"mode": "manual", "retain_hours": 36},
        "policy_version": None,
        "copies": [
            {"equipment": name, "remote": f"nas:lab/{name}", "here": f"{built.nas}/{name}"}
            for name in ("CONFOCAL_01", "FLOW_01")
        ],
        "obstacles": [],
        "questions": [],
    }
    assert nothing_is_registered()


def test_without_a_path_it_is_the_file_of_this_user(
    manage: Manage, built: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(built.base / "cfg"))
    done = manage()
    assert (done.status, "cfg/exlab-wizard/config.yaml cannot be read: No such file" in done.err) == (2, True)
    (built.base / "cfg/exlab-wizard").mkdir(parents=True)
    (built.base / "cfg/exlab-wizard/config.yaml").write_text(two_instruments(built))
    assert manage("--json").json["path"] == str(built.staging)


# Doing it


def test_it_registers_and_writes_the_policy(manage: Manage, built: Lab, now: datetime) -> None:
    path = written(built, two_instruments(built, mode="scheduled", hours="48"))
    before = path.read_bytes()
    done = manage(path, "--nas-root", built.nas, "--allow-same-filesystem", "--apply", "--json")
    assert done.status == 0, done.err
    assert (done.json["applied"], done.json["policy_version"]) == (True, 1)
    root = StagingRoot.objects.get()
    assert (root.name, root.host, root.path) == ("Imaging PC", settings.EXLAB_HOST, str(built.staging))
    assert (root.nas_path, root.nas_layout, root.instrument_nas) == (str(built.nas), "equipment/leaf", {})
    assert root.token
    policy = RetentionPolicy.objects.get()
    assert (policy.root, policy.mode, policy.retain_hours) == (root, "scheduled", 48)
    assert (policy.rehearsal, policy.proof) == ("rehearsing", "")
    assert path.read_bytes() == before

    discovery.discover(root, now=now)
    run = Run.objects.get()
    assert "nas_missing_file" not in run.reason


def test_twice_is_harmless(manage: Manage, built: Lab) -> None:
    path = written(built, two_instruments(built, mode="scheduled"))
    first = manage(path, "--nas-root", built.nas, "--allow-same-filesystem", "--apply")
    assert first.status == 0, first.err
    roots, policies, before = _rows(StagingRoot), _rows(RetentionPolicy), _files(built)
    for arguments in (["--nas-root", built.nas], []):
        again = manage(path, *arguments, "--apply", "--json")
        assert again.status == 0, again.err
        assert (again.json["policy"], again.json["policy_version"], again.json["questions"]) == (None, None, [])
    assert (_rows(StagingRoot), _rows(RetentionPolicy), _files(built)) == (roots, policies, before)


def test_a_policy_that_people_wrote_stays(manage: Manage, built: Lab, now: datetime) -> None:
    path = written(built, two_instruments(built))
    manage(path, "--apply")
    root = StagingRoot.objects.get()
    policy_versions.add_version(root=root, author="admin", now=now, mode="scheduled", retain_hours=500)
    again = manage(path, "--apply", "--json")
    assert again.status == 0
    assert any("has a policy of its own, version 2, which stays" in one for one in again.json["warnings"])
    assert RetentionPolicy.objects.count() == 2


def test_limits_alone_are_no_policy_of_when_runs_go(manage: Manage, root: StagingRoot, lab: Lab, now: datetime) -> None:
    policy_versions.add_version(root=root, author="admin", now=now, max_runs=500, rehearse=False)
    done = manage(written(lab, two_instruments(lab, mode="scheduled")), "--apply", "--json")
    assert (done.status, done.json["policy_version"]) == (0, 2)
    newest = RetentionPolicy.objects.get(version=2)
    assert (newest.mode, newest.max_runs, newest.rehearsal) == ("scheduled", 500, "rehearsing")


def test_a_root_that_was_registered_by_hand_keeps_its_name(manage: Manage, root: StagingRoot, lab: Lab) -> None:
    path = written(lab, two_instruments(lab, label="Another name"))
    done = manage(path, "--apply", "--json")
    assert (done.status, done.json["name"]) == (0, "lab")
    assert StagingRoot.objects.get().nas_layout == "run-path"
    assert "the wizard copies by equipment/leaf" in done.json["questions"][0]
    done = manage(path, "--nas-root", lab.nas, "--apply", "--json")
    assert done.status == 0, done.err
    assert StagingRoot.objects.get().nas_layout == "equipment/leaf"


def test_the_nas_may_be_said_later(manage: Manage, built: Lab) -> None:
    path = written(built, two_instruments(built))
    done = manage(path, "--apply")
    assert done.status == 0
    assert "No NAS root is registered" in done.err
    assert StagingRoot.objects.get().nas_path == ""
    done = manage(path, "--nas-root", built.nas, "--allow-same-filesystem", "--apply")
    assert done.status == 0, done.err
    assert (StagingRoot.objects.get().nas_path, StagingRoot.objects.get().nas_layout) == (
        str(built.nas),
        "equipment/leaf",
    )


def test_what_stands_against_a_nas_is_said_and_ends_with_1(manage: Manage, built: Lab) -> None:
    """In the words of `add_staging_root`: a staging disk shown as the NAS, and a marker without a UUID."""
    path = written(built, two_instruments(built))
    assert manage(path, "--nas-root", built.nas, "--allow-same-filesystem", "--apply").status == 0
    (built.nas / ".exlab-staging-none").touch()
    good = manage(path, "--apply")
    assert (good.status, good.err.count(".exlab-staging-none begins like the marker")) == (0, 1)
    (built.nas / f".exlab-staging-{uuid.uuid4()}").touch()
    bad = manage(path, "--apply", "--json")
    assert bad.status == 1
    assert any(Reason.NAS_IS_STAGING.sentence in warning for warning in bad.json["warnings"])


def test_a_mount_for_each_instrument(manage: Manage, built: Lab) -> None:
    (built.nas / "FLOW_01").mkdir()
    path = written(built, two_instruments(built))
    said = [word for name in ("CONFOCAL_01", "FLOW_01") for word in ("--nas-root", f"{name}={built.nas / name}")]
    done = manage(path, *said, "--allow-same-filesystem", "--accept-empty", "--apply")
    assert done.status == 0, done.err
    root = StagingRoot.objects.get()
    assert root.nas_layout == "leaf"
    assert {name: own["path"] for name, own in root.instrument_nas.items()} == {
        name: str(built.nas / name) for name in ("CONFOCAL_01", "FLOW_01")
    }


def test_folders_of_instruments_below_one_mount(manage: Manage, built: Lab) -> None:
    (built.nas / "cells/flow").mkdir(parents=True)
    text = older(built.staging, rclone("CONFOCAL_01", "lab/CONFOCAL_01"), rclone("FLOW_01", "lab/cells/flow"))
    done = manage(written(built, text), "--nas-root", built.nas, "--allow-same-filesystem", "--accept-empty", "--apply")
    assert done.status == 0, done.err
    root = StagingRoot.objects.get()
    assert (root.nas_path, root.nas_layout) == (str(built.nas), "leaf")
    assert {name: own["path"] for name, own in root.instrument_nas.items()} == {
        "CONFOCAL_01": str(built.nas / "CONFOCAL_01"),
        "FLOW_01": str(built.nas / "cells/flow"),
    }


def test_copies_on_this_very_host(manage: Manage, built: Lab) -> None:
    path = written(built, older(built.staging, rclone("CONFOCAL_01", str(built.nas / "CONFOCAL_01"))))
    done = manage(path, "--allow-same-filesystem", "--apply")
    assert done.status == 0, done.err
    root = StagingRoot.objects.get()
    assert (root.nas_path, root.nas_layout) == (str(built.nas / "CONFOCAL_01"), "leaf")


def test_two_configurations_on_one_host(manage: Manage, built: Lab) -> None:
    other = Lab(built.base / "other")
    other.run()
    manage(written(built, two_instruments(built)), "--apply")
    second = written(other, newer("CONFOCAL_01", orchestrator=f"staging_root: {other.staging}"))
    done = manage(second, "--apply")
    assert (done.status, "stands for another staging root already" in done.err) == (2, True)
    done = manage(second, "--name", "second", "--apply")
    assert done.status == 0, done.err
    assert {root.name: root.path for root in StagingRoot.objects.all()} == {
        "Imaging PC": str(built.staging),
        "second": str(other.staging),
    }


def test_staging_of_another_host_that_is_mounted_here(manage: Manage, built: Lab) -> None:
    path = written(built, older(r"C:\ExLab\staging"))
    shown = manage(path)
    assert (shown.status, "staging lies on another host" in shown.out) == (0, True)
    refused = manage(path, "--apply")
    assert (refused.status, "staging lies on another host" in refused.err) == (2, True)
    assert nothing_is_registered()
    assert manage(path, "--staging-root", built.staging, "--apply").status == 0
    assert StagingRoot.objects.get().path == str(built.staging)


# Refusals


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("orchestrator: {", "is no valid YAML"),
        ("orchestrator: {staging_root: [1]}", "orchestrator.staging_root must be a text."),
        ("orchestrator: {staging_root: ~/staging}", "must be a whole path that begins with /"),
        ("orchestrator: {staging_root: staging}", "must be a whole path that begins with /"),
        ("{}", "orchestrator.staging_root is not set"),
        ("[]", "holds no mapping"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--apply"], ["--json"]], ids=str)
def test_what_cannot_be_used_gets_one_sentence(
    manage: Manage, lab: Lab, text: str, sentence: str, arguments: list[str]
) -> None:
    done = manage(written(lab, text), *arguments)
    assert (done.status, done.out) == (2, "")
    assert sentence in done.err
    assert "\n" not in done.err
    assert nothing_is_registered()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nas-root", "/mnt/a", "--nas-root", "/mnt/b"], "Name one NAS root for the staging root"),
        (["--nas-root", "FLOW_01=/a", "--nas-root", "FLOW_01=/b"], "Two NAS roots are named for FLOW_01"),
        (["--nas-root", "FLOW_01="], "there is no path in it"),
        (["--nas-root", ""], "there is no path in it"),
        (["--nas-root", "FLOW_1=/a"], "nearest: FLOW_01"),
        (["--nas-root", "/nowhere/at/all", "--apply"], "cannot be found"),
        (["--name", " spaces ", "--apply"], "needs a short printable name"),
    ],
)
def test_wrong_answers(manage: Manage, built: Lab, arguments: list[str], sentence: str) -> None:
    done = manage(written(built, two_instruments(built)), *arguments)
    assert (done.status, sentence in done.err) == (2, True), done.err
    assert nothing_is_registered()


def test_a_path_may_have_an_equals_sign(manage: Manage, built: Lab) -> None:
    odd = built.base / "a=b"
    odd.mkdir()
    answer = manage(written(built, two_instruments(built)), "--nas-root", odd, "--json").json
    assert answer["nas_root"] == str(odd)


def test_the_same_disk_is_no_second_copy(manage: Manage, built: Lab) -> None:
    done = manage(written(built, two_instruments(built)), "--nas-root", built.nas, "--apply")
    assert (done.status, "no second copy" in done.err) == (2, True)
    assert nothing_is_registered()


def test_unseen_characters_are_spelled_out(manage: Manage, built: Lab) -> None:
    path = written(built, two_instruments(built) + '"x\\u202ey\\n": 1\n')
    done = manage(path)
    assert done.status == 0
    assert "\\u202e" in done.err
    assert "\u202e" not in done.out + done.err


def _rows(model: type[StagingRoot] | type[RetentionPolicy]) -> list[dict[str, object]]:
    return list(model.objects.order_by("pk").values())


def _files(lab: Lab) -> dict[str, object]:
    return {name: seen for name, seen in snapshot(lab.base).items() if seen.kind == "-"}
