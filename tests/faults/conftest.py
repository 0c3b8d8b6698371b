import os
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tools.disks import tmp_path as tmp_path
from tests.tools.lab import Lab


@pytest.fixture(scope="session")
def _strace() -> None:
    from tests.faults import blackbox

    if not (why := blackbox.missing()):
        return
    if os.environ.get(blackbox.REQUIRED) == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def play(
    request: pytest.FixtureRequest,
    lab: Lab,
    root: Any,
    now: datetime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Callable[..., Any],
) -> Callable[..., None]:
    """Build the lab of a case, ask for the clear, and check everything afterwards.

    With `own_reader` a separate process reads the NAS, as in production.
    """
    from tests.faults.cases import Case, run_case, set_stage  # which need Django, and that is not ready yet
    from tests.faults.means import reading_here

    def play_case(case: Case, asker: str, *, own_reader: bool = False) -> None:
        env = request.getfixturevalue("subprocess_env") if case.alone else {}
        with nullcontext() if own_reader else reading_here(monkeypatch):
            run_case(case, asker, set_stage(case, lab, root, now, tmp_path, monkeypatch, env=env), policy)

    return play_case
