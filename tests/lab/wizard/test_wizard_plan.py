"""The plan made from a wizard's configuration."""

import dataclasses
import subprocess
import sys

import pytest

from cleanup.lab.wizard.wizard_config import parse_config
from cleanup.lab.wizard.wizard_plan import Answers, Registered, WizardPlan, planned
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from tests.tools.wizard_files import newer, older, pushed, rclone, rsync

STAGING = "/data/staging"
ONE_SHARE = older(STAGING, rclone("CONFOCAL_01", "lab/CONFOCAL_01"), rclone("FLOW_01", "lab/FLOW_01"))
OWN_FOLDERS = older(STAGING, rclone("CONFOCAL_01", "lab/imaging"), rclone("FLOW_01", "lab/cells/flow"))
TWO_REMOTES = older(STAGING, rclone("CONFOCAL_01", "lab/confocal"), rsync("FLOW_01", "/export/flow"))


def plan(
    text: str, *directories: str, registered: Registered | None = None, host: str = "labpc-04", **answers: object
) -> WizardPlan:
    return planned(
        parse_config(text),
        host=host,
        answers=Answers(**answers),  # type: ignore[arg-type]
        registered=registered,
        taken={"taken"},
        is_directory={STAGING, *directories}.__contains__,
    )


def places(found: WizardPlan) -> tuple[str | None, str, dict[str, str]]:
    return found.nas_layout, found.nas_path, dict(found.instrument_nas)


def here(found: WizardPlan) -> dict[str, str]:
    return {one.equipment: one.here for one in found.copies}


# The staging root


def test_a_staging_root_is_called_as_the_wizard_calls_the_host() -> None:
    found = plan(older(STAGING, label="Imaging PC"))
    assert (found.name, found.path, found.obstacles) == ("Imaging PC", STAGING, ())


@pytest.mark.parametrize(
    ("label", "name", "said"),
    [
        ("''", "labpc-04", False),
        ('"two\\nlines\\tand\\u202emore"', "two lines and more", True),
        ('"\\u202e"', "labpc-04", True),
        ("x" * 70, "x" * 64, True),
        ("  spaces  ", "spaces", False),
    ],
)
def test_a_label_that_is_no_name_is_cleaned_and_that_is_said(label: str, name: str, said: bool) -> None:
    found = plan(older(STAGING, label=label))
    assert found.name == name
    assert any(f"{name} is proposed" in warning for warning in found.warnings) is said


def test_a_name_that_is_taken_is_an_obstacle() -> None:
    (obstacle,) = plan(older(STAGING, label="taken")).obstacles
    assert "stands for another staging root already" in obstacle
    assert plan(older(STAGING, label="taken"), name="mine").obstacles == ()


@pytest.mark.parametrize("path", ["staging", "./staging", "~/staging", "~lab/staging"])
def test_a_path_that_is_not_whole_is_refused(path: str) -> None:
    with pytest.raises(WizardConfigError, match="must be a whole path that begins with /, not "):
        plan(older(path))


@pytest.mark.parametrize("text", [older("''"), older(""), "sync: {}", newer(orchestrator="staging_root:")])
def test_without_a_staging_root_there_is_nothing_to_register(text: str) -> None:
    with pytest.raises(WizardConfigError, match="staging_root is not set"):
        plan(text)


@pytest.mark.parametrize("path", [r"C:\ExLab\staging", "D:/staging", r"\\pc\staging", "//pc/staging"])
def test_a_path_of_windows_lies_on_another_host(path: str) -> None:
    found = plan(older(path))
    assert "staging lies on another host" in found.obstacles[0]
    assert plan(older(path), staging_root="/mnt/pc").obstacles == ()
    assert plan(older(path), staging_root="/mnt/pc").path == "/mnt/pc"


def test_a_path_that_is_not_there_names_the_host() -> None:
    (obstacle,) = plan(older("/elsewhere"), host="nas01").obstacles
    assert obstacle.startswith("/elsewhere is no directory on nas01")
    assert "EXLAB_HOST" in obstacle


def test_staging_on_a_remote_is_asked_for() -> None:
    text = newer("A", orchestrator="staging_remote: orch\n  staging_base_root: staging")
    (obstacle,) = plan(text).obstacles
    assert "orch:staging" in obstacle
    assert "--staging-root" in obstacle
    local = newer("A", orchestrator=f"staging_base_root: {STAGING}")
    assert (plan(local).path, plan(local).obstacles) == (STAGING, ())


# Where copies go


def test_a_path_on_a_remote_is_no_path_of_this_host() -> None:
    found = plan(ONE_SHARE)
    assert places(found) == ("equipment/leaf", "", {})
    assert here(found) == {"CONFOCAL_01": "", "FLOW_01": ""}
    (question,) = found.questions
    assert "Where is nas:lab mounted on this host?" in question
    assert found.obstacles == ()  # the staging root can be registered meanwhile


def test_what_the_wizard_shows_to_people_is_never_opened() -> None:
    text = older(STAGING, rclone("CONFOCAL_01", "lab/confocal")).replace(r"\\nas01\lab\CONFOCAL_01", "/mnt/shown")
    found = plan(text, "/mnt/shown")
    assert places(found) == ("leaf", "", {})
    assert found.copies[0].shown_as == "/mnt/shown"


def test_one_share_with_a_folder_for_each_instrument() -> None:
    found = plan(ONE_SHARE, nas_path="/mnt/lab")
    assert places(found) == ("equipment/leaf", "/mnt/lab", {})
    assert here(found) == {"CONFOCAL_01": "/mnt/lab/CONFOCAL_01", "FLOW_01": "/mnt/lab/FLOW_01"}
    assert found.questions == ()


def test_folders_below_those_of_the_instruments_become_a_template() -> None:
    text = older(STAGING, rclone("A", "/lab/A/runs"), rclone("B", "/lab/B/runs"))
    found = plan(text, nas_path="/mnt/lab")
    assert places(found) == ("{equipment}/runs/{leaf}", "/mnt/lab", {})
    assert here(found) == {"A": "/mnt/lab/A/runs", "B": "/mnt/lab/B/runs"}


def test_folders_that_no_template_names_become_roots_of_the_instruments() -> None:
    found = plan(OWN_FOLDERS, nas_path="/mnt/lab")
    assert places(found) == (
        "leaf",
        "/mnt/lab",
        {"CONFOCAL_01": "/mnt/lab/imaging", "FLOW_01": "/mnt/lab/cells/flow"},
    )
    assert here(found) == {"CONFOCAL_01": "/mnt/lab/imaging", "FLOW_01": "/mnt/lab/cells/flow"}


def test_a_share_for_each_instrument() -> None:
    found = plan(ONE_SHARE, instrument_nas={"CONFOCAL_01": "/mnt/confocal", "FLOW_01": "/mnt/flow"})
    assert places(found) == ("leaf", "", {"CONFOCAL_01": "/mnt/confocal", "FLOW_01": "/mnt/flow"})
    assert here(found) == {"CONFOCAL_01": "/mnt/confocal", "FLOW_01": "/mnt/flow"}


def test_one_share_for_one_instrument_and_one_for_the_rest() -> None:
    found = plan(ONE_SHARE, nas_path="/mnt/lab", instrument_nas={"CONFOCAL_01": "/mnt/confocal"})
    assert places(found) == ("leaf", "/mnt/lab", {"CONFOCAL_01": "/mnt/confocal", "FLOW_01": "/mnt/lab/FLOW_01"})


def test_an_instrument_whose_mount_is_not_said_is_asked_for() -> None:
    found = plan(TWO_REMOTES, instrument_nas={"CONFOCAL_01": "/mnt/confocal"})
    assert places(found) == ("leaf", "", {"CONFOCAL_01": "/mnt/confocal"})
    (question,) = found.questions
    assert "lab@nas01:/export/flow" in question
    assert "--nas-root FLOW_01=PATH" in question


def test_several_remotes_have_no_common_mount() -> None:
    assert [
        f"--nas-root {name}=PATH" in question
        for name, question in zip(("CONFOCAL_01", "FLOW_01"), plan(TWO_REMOTES).questions, strict=True)
    ] == [True, True]
    with pytest.raises(WizardConfigError, match="copy to several remotes"):
        plan(TWO_REMOTES, nas_path="/mnt/lab")


def test_the_top_of_a_remote() -> None:
    text = older(STAGING, rclone("A", "A"), rclone("B", "B"))
    assert "Where is the top of nas: mounted" in plan(text).questions[0]
    assert places(plan(text, nas_path="/mnt/nas")) == ("equipment/leaf", "/mnt/nas", {})


def test_one_instrument_copies_where_its_transport_says() -> None:
    found = plan(older(STAGING, rclone("EQ1", "flat/EQ1")), nas_path="/mnt/eq1")
    assert places(found) == ("leaf", "/mnt/eq1", {})
    assert here(found) == {"EQ1": "/mnt/eq1"}


def test_one_folder_for_all_is_said_to_be_ambiguous() -> None:
    found = plan(older(STAGING, rclone("A", "all"), rclone("B", "all/")), nas_path="/mnt/all")
    assert places(found) == ("leaf", "/mnt/all", {})
    assert [warning for warning in found.warnings if "A, B copy into one folder" in warning]


def test_the_newer_kind_copies_below_one_root() -> None:
    text = newer("A", "B")
    assert "Where is nas:lab/runs mounted" in plan(text).questions[0]
    found = plan(text, nas_path="/mnt/nas")
    assert places(found) == ("equipment/leaf", "/mnt/nas", {})
    assert here(found) == {"A": "/mnt/nas/A", "B": "/mnt/nas/B"}
    assert places(plan(newer("A"), nas_path="/mnt/nas"))[0] == "equipment/leaf"
    assert places(plan(newer("A"), instrument_nas={"A": "/mnt/a"})) == ("leaf", "", {"A": "/mnt/a"})


def test_an_instrument_that_the_file_does_not_know_is_refused_with_its_neighbours() -> None:
    with pytest.raises(WizardConfigError, match="no instrument CONFOCAL_1 stands in the file; nearest: CONFOCAL_01"):
        plan(ONE_SHARE, instrument_nas={"CONFOCAL_1": "/mnt"})


def test_instruments_that_are_staged_elsewhere_are_no_part_of_it() -> None:
    found = plan(older(STAGING, rclone("A", "lab/A"), rclone("B", "lab/B"), pushed("C")), nas_path="/mnt/lab")
    assert places(found) == ("equipment/leaf", "/mnt/lab", {})
    assert any("C: its runs are staged elsewhere, at /mnt/labpc-02/incoming" in one for one in found.warnings)


# Remotes that are directories of this host


@pytest.mark.parametrize("remote", ["nas", "':local'"])
def test_a_path_that_is_a_directory_here_is_proposed(remote: str) -> None:
    text = older(STAGING, rclone("EQ1", "/srv/flat/EQ1", remote=remote))
    assert places(plan(text)) == ("leaf", "", {})
    found = plan(text, "/srv/flat/EQ1")
    assert places(found) == ("leaf", "/srv/flat/EQ1", {})
    assert found.questions == ()
    assert any("is taken for /srv/flat/EQ1 on this host" in one for one in found.warnings) is (remote == "nas")
    assert places(plan(text, "/srv/flat/EQ1", nas_path="/mnt/nas")) == ("leaf", "/mnt/nas", {})


def test_only_candidates_that_are_here_are_proposed() -> None:
    text = older(STAGING, rclone("A", "/srv/A"), rclone("B", "/srv/B"), rsync("C", "/srv/C"))
    found = plan(text, "/srv/A", "/srv/B", "/srv/C", "/srv")
    assert places(found) == ("leaf", "", {"A": "/srv/A", "B": "/srv/B"})  # what ssh reaches is another host
    assert "--nas-root C=PATH" in found.questions[0]


def test_a_newer_root_that_is_a_directory_here_is_proposed() -> None:
    text = newer("A", remote="", base_root="/srv/runs")
    assert places(plan(text, "/srv/runs")) == ("equipment/leaf", "/srv/runs", {})
    assert places(plan(text)) == ("equipment/leaf", "", {})


# What is registered already


def test_what_is_registered_stays_when_nothing_new_is_said() -> None:
    kept = Registered(name="lab", nas_path="/mnt/lab", nas_layout="equipment/leaf", instrument_nas={})
    found = plan(ONE_SHARE, registered=kept)
    assert (found.name, places(found), found.questions) == ("lab", (None, "", {}), ())
    assert here(found) == {"CONFOCAL_01": "/mnt/lab/CONFOCAL_01", "FLOW_01": "/mnt/lab/FLOW_01"}


def test_a_layout_that_cannot_be_the_wizards_is_told() -> None:
    kept = Registered(name="lab", nas_path="/mnt/lab", nas_layout="run-path", instrument_nas={})
    (question,) = plan(ONE_SHARE, registered=kept).questions
    assert "lab is registered with the layout run-path, and the wizard copies by equipment/leaf" in question
    found = plan(ONE_SHARE, registered=kept, nas_path="/mnt/lab")
    assert places(found) == ("equipment/leaf", "/mnt/lab", {})
    assert any("The layout changes from run-path to equipment/leaf" in one for one in found.warnings)


def test_an_instrument_that_came_later_is_asked_for() -> None:
    kept = Registered(name="lab", nas_path="", nas_layout="leaf", instrument_nas={"CONFOCAL_01": "/mnt/confocal"})
    (question,) = plan(TWO_REMOTES, registered=kept).questions
    assert "--nas-root FLOW_01=PATH" in question
    found = plan(TWO_REMOTES, registered=kept, instrument_nas={"FLOW_01": "/mnt/flow"})
    assert (places(found), found.questions) == (("leaf", "", {"FLOW_01": "/mnt/flow"}), ())


def test_one_nas_root_by_leaf_says_nothing_of_another_folder() -> None:
    kept = Registered(name="lab", nas_path="/mnt/confocal", nas_layout="leaf", instrument_nas={})
    one = older(STAGING, rclone("CONFOCAL_01", "lab/CONFOCAL_01"))
    assert plan(one, registered=kept).questions == ()
    assert "Where is nas:lab mounted" in plan(ONE_SHARE, registered=kept).questions[0]


# Policy and warnings


def test_the_policy_is_the_wizards() -> None:
    found = plan(older(STAGING, mode="scheduled", hours=72)).policy
    assert found is not None
    assert dataclasses.astuple(found) == ("scheduled", 72.0)
    assert plan(newer()).policy is None


def test_a_second_cleaner_is_warned_of() -> None:
    def cleaners(text: str) -> list[str]:
        said = [one for one in plan(text).warnings if one.startswith("A second cleaner")]
        return [
            word for word in ("staging_cleanup.mode at scheduled", "nas_cleanup is") if any(word in one for one in said)
        ]

    assert cleaners(older(STAGING, mode="scheduled")) == ["staging_cleanup.mode at scheduled", "nas_cleanup is"]
    assert cleaners(older(STAGING, nas_cleanup="false")) == []
    assert cleaners(newer()) == ["nas_cleanup is"]  # on where the file does not say otherwise
    assert cleaners(newer(more="nas_cleanup:\n  enabled: off\n")) == []


def test_files_that_are_never_copied_are_warned_of() -> None:
    text = newer(more="sync:\n  ignore_globs: ['*.tmp', Thumbs.db]\n  enabled: false\n")
    said = plan(text).warnings
    assert any("*.tmp, Thumbs.db" in one and "not_in_manifest" in one for one in said)
    assert any("sync.enabled is off" in one for one in said)


def test_reading_and_planning_need_no_django() -> None:
    source = "import sys, cleanup.lab.wizard.wizard_plan; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", source], check=True)
