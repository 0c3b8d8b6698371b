"""Old module names still lead to the moved code."""

import importlib
import subprocess
import sys

import pytest

from cleanup.former_names import FORMER, RENAMED
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine


@pytest.mark.parametrize("former", [name for name, now in FORMER.items() if now])
def test_a_former_name_leads_to_where_its_names_stand_now(former: str) -> None:
    sys.modules.pop(f"cleanup.{former}", None)
    with pytest.warns(DeprecationWarning, match=f"cleanup.{former} stands in cleanup.{FORMER[former][0]}"):
        module = importlib.import_module(f"cleanup.{former}")
    places = [importlib.import_module(f"cleanup.{now}") for now in FORMER[former]]
    for there in places:
        names = [name for name, value in vars(there).items() if getattr(value, "__module__", "") == there.__name__]
        assert names
        for name in names:
            first = next(place for place in places if hasattr(place, name))
            assert (
                name.startswith("__") or f"{former}.{name}" in RENAMED or getattr(module, name) is getattr(first, name)
            )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("former", "now"), RENAMED.items(), ids=RENAMED)
def test_what_was_renamed_is_found_by_its_former_name(former: str, now: str) -> None:
    module, _, name = former.rpartition(".")
    place, _, new = now.rpartition(".")
    there = getattr(importlib.import_module(f"cleanup.{place}"), new)
    assert getattr(importlib.import_module(f"cleanup.{module}"), name) is there
    assert callable(there)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_never_stood_there_is_not_found() -> None:
    assert not hasattr(importlib.import_module("cleanup.sweeping"), "no_such_name")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("cleanup.no_such_module")


def test_a_script_of_before_goes_on(subprocess_env: dict[str, str]) -> None:
    script = (
        "import django; django.setup()\n"
        "from cleanup import sweeping, registering, discovery\n"
        "from cleanup.policy.retention import Mode\n"
        "import cleanup.staging.tree\n"
        "print(Mode.MANUAL, sweeping.sweep.__module__, cleanup.staging.tree.scan.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, env=subprocess_env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["manual", "cleanup.sweeps.all_roots", "scan"], done.stderr
