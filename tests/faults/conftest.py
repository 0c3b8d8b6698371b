"""What the tests of this folder share."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tools.lab import Lab


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
    """Build the lab of a case of the matrix, let somebody ask for the clear, and look at everything afterwards.

    With `own_reader` a process of its own reads the NAS, as it does outside of tests.
    """
    from tests.faults.cases import Case, run_case, set_stage  # which need Django, and that is not ready yet
    from tests.faults.means import reading_here

    def play_case(case: Case, asker: str, *, own_reader: bool = False) -> None:
        env = request.getfixturevalue("subprocess_env") if case.alone else {}
        with nullcontext() if own_reader else reading_here(monkeypatch):
            run_case(case, asker, set_stage(case, lab, root, now, tmp_path, monkeypatch, env=env), policy)

    return play_case
