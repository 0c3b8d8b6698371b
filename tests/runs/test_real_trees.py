"""Trees written by ExLab-Wizard, and accidents as scripts, from the folder in `EXLAB_CASES`.

`wizard/<letter>-….tar.gz` holds `staging/` and mostly a NAS beside it; `NN-….py` ends with status 1 and the
line `no fault: …` if all is well. The other tests build such trees themselves.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.blackbox import CHECKOUT
from tests.faults.scene import is_root

CASES = Path(os.environ["EXLAB_CASES"]) if os.environ.get("EXLAB_CASES") else None
# By its first letter: where the NAS lies, how it is laid out, and the runs that must be clearable.
TREES = {
    "A": (["--nas-root", "nas-a"], 4),
    "B": (["--nas-root", "nas-flat", "--nas-layout", "equipment/leaf"], 2),
    "E": (["--nas-root", "nas-new"], 2),
}
SCRIPTS = ("01-*.py", "05-*.py", "08-*.py")

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(CASES is None, reason="set EXLAB_CASES to a folder of cases to try them"),
]


def archives() -> Iterator[Path]:
    yield from sorted((CASES / "wizard").glob("*.tar.gz")) if CASES else []


def manage(data: Path, *arguments: object) -> dict[str, object]:
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE")}
    command = [sys.executable, "manage.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**env, "EXLAB_DATA_DIR": str(data)}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, object] = json.loads(done.stdout) if "--json" in arguments else {}
    return answer


def set_signed_times(staging: Path) -> None:
    """Give files the times in `sync_state.json`: an archive keeps whole seconds at best."""
    for record in staging.rglob("sync_state.json"):
        for name, seen in json.loads(record.read_text())["files"].items():
            path = record.parent.parent / name
            if path.exists():
                os.utime(path, ns=(seen["synced_signature"][1],) * 2)


@pytest.mark.parametrize("letter", TREES)
def test_the_wizards_runs_are_clearable(letter: str, tmp_path: Path) -> None:
    """Takes 3 s each."""
    archive = next((path for path in archives() if path.name.startswith(f"{letter}-")), None)
    if archive is None:
        pytest.skip(f"EXLAB_CASES holds no wizard/{letter}-….tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "lab", filter="data")
    options, clearable = TREES[letter]
    set_signed_times(tmp_path / "lab/staging")
    options = [str(tmp_path / "lab" / option) if option.startswith("nas") else option for option in options]
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    manage(data, "migrate", "--verbosity", "0")
    staging = tmp_path / "lab/staging"
    manage(data, "add_staging_root", "lab", staging, *options, "--allow-same-filesystem", "--json")
    manage(data, "discover", "--json")
    runs = manage(data, "evaluate", "--json")["runs"]
    assert isinstance(runs, list)
    assert sum(run["clearable"] for run in runs) == clearable, json.dumps(runs, indent=1)


@pytest.mark.skipif(not is_root(), reason="only root may mount")
@pytest.mark.parametrize("pattern", SCRIPTS)
def test_an_accident_that_was_reported_does_not_happen(pattern: str) -> None:
    """Takes 10 s each."""
    script = next(CASES.glob(pattern), None) if CASES else None
    if script is None:
        pytest.skip(f"EXLAB_CASES holds no {pattern}")
    env = {**os.environ, "PROJECT": str(CHECKOUT), "PY": sys.executable}
    for gone in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "EXLAB_DATA_DIR"):
        env.pop(gone, None)
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=False)
    assert "no fault:" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
