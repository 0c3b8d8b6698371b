"""What a reader of the checkout relies on: pins, documents, scripts."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cleanup.rules.decisions import Gate
from exlab.settings import read
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import Lab, snapshot

pytestmark = pytest.mark.one_engine(by="function")


README = (CHECKOUT / "README.md").read_text()
DOCUMENTS = {
    path.relative_to(CHECKOUT).as_posix(): path for pattern in ("*.md", "docs/*.md") for path in CHECKOUT.glob(pattern)
}
COMMANDS = sorted(path.stem for path in (CHECKOUT / "cleanup/management/commands").glob("[a-z]*.py"))
CONSTRAINTS = (CHECKOUT / "constraints.txt").read_text().splitlines()
PREFIX = 'python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[dev]" && '


def test_constraints_are_pins_without_any_address() -> None:
    assert CONSTRAINTS
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.+!]*( ; [^:/]+)?", line), line
        assert "://" not in line


def test_everything_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    pins = dict(line.split(" ; ")[0].split("==") for line in CONSTRAINTS)
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_the_two_commands_of_the_readme() -> None:
    lines = README.splitlines()
    assert next(line for line in lines if "manage.py up" in line) == f"{PREFIX}.venv/bin/python manage.py up --demo"
    assert next(line for line in lines if ".venv/bin/pytest" in line) == f"{PREFIX}.venv/bin/pytest"


def test_the_readme_is_short_and_makes_seven_promises() -> None:
    assert len(README.splitlines()) < 150
    promises = README.partition("## What it promises\n")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\. \*\*", promises, re.MULTILINE) == list("1234567")


# Commands and settings: each stands in one document, and nothing else stands there.


def sections() -> dict[str, str]:
    parts = re.split(r"^## ", DOCUMENTS["docs/commands.md"].read_text(), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def options_of(command: BaseCommand) -> set[str]:
    lines = re.findall(r"^  (-\S.*)$", command.create_parser("manage.py", "command").format_help(), re.MULTILINE)
    return {option for line in lines for option in named_in(line.partition("  ")[0])}


def own_options(name: str) -> set[str]:
    return options_of(load_command_class("cleanup", name)) - options_of(BaseCommand())


def named_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def test_the_document_has_every_command_and_no_other() -> None:
    assert sorted(sections()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_document_has_every_option_of_a_command(name: str) -> None:
    """`--json` is explained once for all of them."""
    assert own_options(name) - {"--json"} - named_in(sections()[name]) == set()
    assert ("--json" in own_options(name)) == (name not in ("check", "migrate"))


def test_the_document_names_no_option_that_is_not_there() -> None:
    options = {option for name in COMMANDS for option in own_options(name)}
    assert named_in(DOCUMENTS["docs/commands.md"].read_text()) - options == set()


def test_every_setting_stands_in_the_document_as_it_is_read() -> None:
    """Takes one process. The text on a setting comes from the line that reads it."""
    made = subprocess.run(
        [sys.executable, "docs/make_settings.py"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    document = DOCUMENTS["docs/settings.md"].read_text()
    assert document == made
    assert re.findall(r"^\| `([A-Z_]+)`", document, re.MULTILINE) == list(read.settings)


def test_no_setting_has_a_row_in_two_documents() -> None:
    rows = {name: re.findall(r"^\| `([A-Z_]{3,})`", path.read_text(), re.MULTILINE) for name, path in DOCUMENTS.items()}
    assert [name for name, found in rows.items() if set(found) & set(read.settings)] == ["docs/settings.md"]


def test_every_gate_stands_in_the_document_in_its_order() -> None:
    table = DOCUMENTS["docs/gates.md"].read_text().partition("## Gates\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE) == list(Gate)


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", sorted(DOCUMENTS))
def test_links_lead_somewhere(document: str) -> None:
    path = DOCUMENTS[document]
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text()):
        if "://" in target:
            continue
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


ROOMS = {folder.name for folder in (CHECKOUT / "cleanup").iterdir() if folder.is_dir()}


def names_of_modules_in(text: str) -> set[tuple[str, str]]:
    named = re.findall(r"`(?:cleanup\.)?([a-z_]+(?:\.[a-z_]+)+)(?:\.([A-Z]\w+))?`", text)
    return {(name, inside) for name, inside in named if name.partition(".")[0] in ROOMS | {"exlab"}}


def files_named_in(text: str) -> set[str]:
    named = re.findall(r"`((?:[a-z_]+/)+(?:\w+\.py)?)", text)
    return {name for name in named if name.partition("/")[0] in ROOMS | {"cleanup", "exlab", "tests", "docs", "bench"}}


@pytest.mark.parametrize("document", sorted(set(DOCUMENTS) - {"CHANGELOG.md"}))
def test_what_a_document_names_of_the_code_is_there(document: str) -> None:
    text = DOCUMENTS[document].read_text()
    for name, inside in names_of_modules_in(text):
        place = (CHECKOUT if name.startswith("exlab.") else CHECKOUT / "cleanup") / name.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), name
        assert not inside or f"class {inside}" in place.with_suffix(".py").read_text(), f"{name}.{inside}"
    for name in files_named_in(text):
        assert (CHECKOUT / name).exists() or (CHECKOUT / "cleanup" / name).exists(), name


@pytest.mark.parametrize("path", sorted((CHECKOUT / "static/cleanup/guide").glob("*.png")), ids=lambda path: path.stem)
def test_the_screenshots_are_small_and_shown_in_a_document(path: Path) -> None:
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") >= 390  # pixels across, as its header says
    assert len(picture) < 100_000
    shown = "".join((CHECKOUT / "docs" / name).read_text() for name in ("guide.md", "admin.md"))
    address = path.relative_to(CHECKOUT).as_posix()
    assert f"({address})" in README or f"(../{address})" in shown


@pytest.mark.parametrize("script", [".ci/run", "docs/walkthrough.sh", "manage.py"])
def test_scripts_can_be_run(script: str) -> None:
    path = CHECKOUT / script
    assert os.access(path, os.X_OK)
    if path.read_text().startswith("#!/usr/bin/env bash"):
        subprocess.run(["bash", "-n", path], check=True)


def test_the_image_is_built_from_the_pins_and_runs_without_root() -> None:
    lines = (CHECKOUT / "docker/Dockerfile").read_text().splitlines()
    assert any("pip install" in line and "-c constraints.txt" in line for line in lines)
    assert "USER exlab" in lines
    assert lines.index("USER exlab") < next(i for i, line in enumerate(lines) if line.startswith("CMD"))
    sources = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((CHECKOUT / source).exists() for source in sources)
    let_in = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) <= let_in


def walk_through(tmp_path: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "PYTHON": sys.executable, "TMPDIR": str(scratch)}
    command = [CHECKOUT / "docs/walkthrough.sh", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert list(scratch.iterdir()) == []
    return done


@pytest.mark.exhaustive
def test_the_walkthrough_finds_every_count_right(tmp_path: Path) -> None:
    done = walk_through(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("Every count was right.\n")


@pytest.mark.exhaustive
def test_the_walkthrough_takes_a_lab_and_leaves_it_alone(tmp_path: Path, lab: Lab) -> None:
    lab.run()
    before = snapshot(lab.base)
    done = walk_through(tmp_path, lab.base)
    assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(lab.base) == before


@pytest.mark.exhaustive
def test_the_walkthrough_fails_loudly(tmp_path: Path, lab: Lab) -> None:
    lab.run(twin=False)
    done = walk_through(tmp_path, lab.base)
    assert done.returncode != 0
    assert "FAILED: would clear" in done.stderr
