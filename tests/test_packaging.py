"""What a reader of the checkout relies on: pins, the README's commands and tables, scripts that run."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exlab.settings import read
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import Lab, snapshot

pytestmark = pytest.mark.one_engine(by="function")


README = (CHECKOUT / "README.md").read_text()
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


def test_the_readme_names_every_command() -> None:
    commands = {path.stem for path in (CHECKOUT / "cleanup/management/commands").glob("[a-z]*.py")}
    named = {match[1] for match in re.finditer(r"^\| `([a-z_]+)", README, re.MULTILINE)}
    assert commands <= named


@pytest.mark.parametrize("document", ["README.md", "docs/settings.md"])
def test_every_setting_stands_in_the_documents_as_it_is_read(document: str) -> None:
    """Costs a process. What they say of a setting comes from the line that reads it."""
    made = [sys.executable, "docs/make_settings.py", *(["--readme"] if document == "README.md" else [])]
    lines = subprocess.run(made, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert lines in (CHECKOUT / document).read_text()
    named = {match[1] for match in re.finditer(r"^\| `([A-Z_]+)`", README, re.MULTILINE)}
    assert named == set(read.settings)


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md", "docs/guide.md", "docs/settings.md"]
)
def test_links_lead_somewhere(document: str) -> None:
    path = CHECKOUT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", sorted((CHECKOUT / "docs").glob("*.png")), ids=lambda path: path.stem)
def test_the_screenshots_are_small_pictures_that_somebody_shows(path: Path) -> None:
    picture = path.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") >= 390  # pixels across, as its header says
    assert len(picture) < 100_000
    guide = (CHECKOUT / "docs/guide.md").read_text()
    assert f"(docs/{path.name})" in README or f"({path.name})" in guide


@pytest.mark.parametrize("script", [".ci/run", "docs/walkthrough.sh", "manage.py"])
def test_scripts_can_be_run(script: str) -> None:
    path = CHECKOUT / script
    assert os.access(path, os.X_OK)
    if path.read_text().startswith("#!/usr/bin/env bash"):
        subprocess.run(["bash", "-n", path], check=True)


def test_the_image_is_built_from_the_pins_and_runs_as_nobody_special() -> None:
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
