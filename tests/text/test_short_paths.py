"""Long paths are told by their ends."""

import pytest

from cleanup.text.short_paths import short_path

pytestmark = pytest.mark.one_engine


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/mnt/nas/FLOW_01/P/Runs/Run_2026-04-17T14-32", "…/Runs/Run_2026-04-17T14-32"),
        ("FLOW_01/PROJ-0060/TestRuns/TestRun_2026-04-18T09-12-45", "…/TestRuns/TestRun_2026-04-18T09-12-45"),
        ("/mnt/nas", ""),
        ("a-single-name-that-is-longer-than-there-is-room-for", ""),
        ("", ""),
    ],
)
def test_a_path_is_told_by_its_end(path: str, short: str) -> None:
    assert short_path(path) == short
