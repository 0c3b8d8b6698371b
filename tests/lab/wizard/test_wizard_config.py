import os
from pathlib import Path

import pytest

from cleanup.lab.wizard.wizard_config import MAX_BYTES, Remote, default_path, parse_config, read_config
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from cleanup.rules.policies.policy import Mode
from tests.tools.wizard_files import newer, older, pushed, rclone, rsync


def refused(text: str) -> str:
    with pytest.raises(WizardConfigError) as error:
        parse_config(text)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


# What the wizard writes


def test_all_that_matters_of_the_older_kind() -> None:
    text = older(
        "/data/staging",
        rclone("CONFOCAL_01", "lab/confocal"),
        rsync("FLOW_01", "/export/flow/"),
        pushed("PLATE_02"),
        label="'Imaging PC: room 2'",
        mode="scheduled",
        hours=48,
    )
    config = parse_config(text)
    assert config.warnings == ()  # the wizard's own keys are all known
    assert (config.label, config.staging_root) == ("Imaging PC: room 2", "/data/staging")
    assert config.staging_cleanup is not None
    assert (config.staging_cleanup.mode, config.staging_cleanup.retain_hours) == (Mode.SCHEDULED, 48.0)
    confocal, flow, plate = config.instruments
    assert (confocal.copies, str(confocal.copies)) == (Remote("nas", "lab/confocal"), "nas:lab/confocal")
    assert confocal.shown_as == r"\\nas01\lab\CONFOCAL_01"
    assert flow.copies == Remote("lab@nas01", "/export/flow", by_ssh=True)
    assert (plate.copies, plate.pushes) == (None, "/mnt/labpc-02/incoming")
    assert (config.nas, config.nas_cleanup, config.copies_at_all) == (None, True, True)


def test_words_that_are_truth_values_or_times_in_older_yaml_stay_words() -> None:
    """The wizard writes an instrument called ON, and the time 18:00, without quotes."""
    config = parse_config(older("/data/staging", rclone("ON", "lab/NO"), rclone("Y", "lab/Y"), label="0x1F"))
    assert [one.equipment for one in config.instruments] == ["ON", "Y"]
    assert config.instruments[0].copies == Remote("nas", "lab/NO")
    assert config.label == "0x1F"


def test_all_that_matters_of_the_newer_kind() -> None:
    more = "sync:\n  ignore_globs: ['*.tmp', Thumbs.db]\nnas_cleanup:\n  enabled: no\n"
    config = parse_config(newer("CONFOCAL_01", "FLOW_01", base_root="/lab//runs/", more=more))
    assert config.warnings == ()
    assert config.nas == Remote("nas", "/lab/runs")
    assert [str(one.copies) for one in config.instruments] == ["nas:/lab/runs/CONFOCAL_01", "nas:/lab/runs/FLOW_01"]
    assert config.ignore_globs == ("*.tmp", "Thumbs.db")
    assert config.nas_cleanup is False
    assert config.staging_cleanup is None


def test_staging_on_a_remote() -> None:
    config = parse_config(newer(orchestrator="staging_remote: orch\n  staging_base_root: staging/pc1"))
    assert (config.staging_root, config.staging) == ("", Remote("orch", "staging/pc1"))


def test_what_the_wizard_takes_where_the_file_says_half() -> None:
    def cleanup(lines: str) -> tuple[str, float] | None:
        found = parse_config(f"orchestrator:\n  staging_root: /s\n  staging_cleanup:{lines}").staging_cleanup
        return (found.mode, found.retain_hours) if found else None

    assert cleanup("\n    mode: scheduled") == ("scheduled", 24)
    assert cleanup("\n    retain_hours: 0") == ("manual", 0)
    assert cleanup("") is None
    assert parse_config("orchestrator: {staging_root: /s}").nas_cleanup is None


def test_anchors_and_merges_that_people_write() -> None:
    config = parse_config(
        "equipment:\n"
        "  - &first {id: A, transport: &t {type: rclone, rclone_remote: nas, rclone_remote_path: a}}\n"
        "  - {id: B, transport: {<<: *t, rclone_remote_path: b}}\n"
    )
    assert [str(one.copies) for one in config.instruments] == ["nas:a", "nas:b"]


# Keys


def test_each_unknown_key_is_a_warning_and_the_rest_is_used() -> None:
    text = older("/data/staging", rclone("CONFOCAL_01", "lab/confocal") + "\n    colour: blue")
    config = parse_config(text + "  mood: good\nfuture:\n  staging_root: /elsewhere\n7: x\n")
    assert config.warnings == tuple(
        f"{key} is not known here, and is passed over."
        for key in ("equipment[0].colour", "orchestrator.mood", "future", "7")
    )
    assert config.staging_root == "/data/staging"
    assert config.instruments[0].copies == Remote("nas", "lab/confocal")


def test_a_secret_in_an_unknown_key_is_not_told() -> None:
    text = older("/data/staging", rsync("FLOW_01", "/export") + "\n    password: hunter2")
    assert "hunter2" not in repr(parse_config(text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("orchestrator: [1]", "orchestrator must be a mapping."),
        ("orchestrator: {staging_root: [/s]}", "orchestrator.staging_root must be a text."),
        ("orchestrator: {staging_root: 7}", "orchestrator.staging_root must be a text."),
        ('orchestrator: {staging_root: "/s\\0"}', "orchestrator.staging_root must be one line of printable text."),
        ('orchestrator: {staging_root: "/s\\uD800"}', "orchestrator.staging_root must be one line of printable text."),
        ("orchestrator: {staging_cleanup: {mode: always}}", "staging_cleanup.mode must be manual or scheduled."),
        ("orchestrator: {staging_cleanup: {retain_hours: soon}}", "staging_cleanup.retain_hours must be a number."),
        ("orchestrator: {staging_cleanup: {retain_hours: true}}", "staging_cleanup.retain_hours must be a number."),
        ("orchestrator: {staging_cleanup: {retain_hours: -1}}", "staging_cleanup.retain_hours must be between 0 and"),
        ("orchestrator: {staging_cleanup: {retain_hours: 9e9}}", "staging_cleanup.retain_hours must be between 0 and"),
        ("orchestrator: {staging_cleanup: {retain_hours: .nan}}", "staging_cleanup.retain_hours must be a number."),
        ("equipment: {id: A}", "equipment must be a list."),
        ("equipment: [A]", "equipment[0] must be a mapping."),
        ("equipment: [{id: A}, {id: [B]}]", "equipment[1].id must be a text."),
        ("equipment: [{label: A}]", "equipment[0].id must name an instrument"),
        ("equipment: [{id: ../A}]", "equipment[0].id must name an instrument"),
        ("equipment: [{id: .hidden}]", "equipment[0].id must name an instrument"),
        ("equipment: [{id: A}, {id: A}]", "equipment[1].id: A stands there twice."),
        ("equipment: [{id: A, transport: rclone}]", "equipment[0].transport must be a mapping."),
        ("nas_cleanup: {enabled: perhaps}", "nas_cleanup.enabled must be true or false."),
        ("sync: {ignore_globs: '*.tmp'}", "sync.ignore_globs must be a list of texts."),
        ("logging: {central_log_keep: many}", "logging.central_log_keep must be a number."),
    ],
)
def test_a_known_key_of_another_type_is_named(text: str, sentence: str) -> None:
    assert sentence in refused(text)


# What is no configuration


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("null", "is empty"),
        ("- a\n- b\n", "holds no mapping"),
        ("staging_root", "holds no mapping"),
        ("a: 1\nb: [1\n", "is no valid YAML in line 3"),
        ("a: 1\n\tb: 2\n", "is no valid YAML in line 2"),
        ("a: 1\n---\nb: 2\n", "is no valid YAML"),
        ("sync: {}\nlims: {}\nsync: {}\n", "in line 3: the key sync stands there twice"),
        ("sync: {enabled: true, enabled: false}", "the key enabled stands there twice"),
        ("a: *nowhere", "is no valid YAML in line 1"),
        ("? [a, b]\n: c\n", "a key that is no word"),
        ("sync: {<<: [1]}", "<< takes mappings only"),
        ("a: !!python/object/apply:os.system ['true']", "is nothing of the type"),
        ("a: !local {b: c}", "is nothing of the type !local"),
        ("a: !!str [b]", "is nothing of the type str"),
        ("a: !!python/name:os.system x", "is nothing of the type"),
        ("a: !!timestamp nonsense", "is nothing of the type timestamp"),
        ("a: !!int nonsense", "is nothing of the type int"),
        ("a: !!bool perhaps", "is nothing of the type bool"),
        ("a: b\x00c", "is no valid YAML"),
        ("a: " + "[" * 20 + "]" * 20 + "\n" + "b: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("[" * 600, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_gets_one_sentence(text: str, sentence: str) -> None:
    assert sentence in refused(text)


@pytest.mark.parametrize("merge", [False, True], ids=["lists", "merges"])
def test_aliases_of_aliases_are_not_spelled_out(merge: bool) -> None:
    """Ten lines would expand to ten thousand million values."""
    opening, closing = ("{<<: [", "]}") if merge else ("[", "]")
    levels = [f"a{n}: &a{n} {opening}{', '.join([f'*a{n - 1}'] * 10)}{closing}\n" for n in range(1, 11)]
    assert "aliases of aliases" in refused("a0: &a0 {x: 1}\n" + "".join(levels))


def test_an_alias_of_itself_ends() -> None:
    assert "nested too deeply" in refused("a: &a\n  b: *a\n")


# Files


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(older("/data/staging"), encoding="utf-8-sig")
    assert read_config(str(path)).staging_root == "/data/staging"


def test_what_cannot_be_read_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("orchestrator: {label: Zürich}".encode("latin-1"))
    (tmp_path / "huge").write_bytes(b"#" * (MAX_BYTES + 1))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, sentence in {
        "latin": "The file is no UTF-8 text (byte 23).",
        "huge": "The file is larger than 1 MiB",
        "pipe": "This is no regular file.",
        "": "cannot be read: Is a directory.",
        "nowhere": "cannot be read: No such file or directory.",
        "loop": "cannot be read: Too many levels of symbolic links.",
    }.items():
        with pytest.raises(WizardConfigError) as error:
            read_config(str(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)
        assert sentence in str(error.value)


def test_where_the_wizard_keeps_it() -> None:
    assert default_path({"XDG_CONFIG_HOME": "/cfg"}) == "/cfg/exlab-wizard/config.yaml"
    at_home = os.path.expanduser("~/.config/exlab-wizard/config.yaml")
    assert default_path({}) == default_path({"XDG_CONFIG_HOME": ""}) == at_home
