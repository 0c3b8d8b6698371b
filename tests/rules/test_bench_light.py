"""The light on the bench: green is safe, amber waits, red needs a person."""

from datetime import UTC, datetime, timedelta

import pytest

from cleanup.rules import bench_light
from cleanup.rules.bench_light import OLD_LOOK, PASSING, WRITTEN_LATELY, Light
from cleanup.rules.liveness import AHEAD
from cleanup.rules.reasons import Reason

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 6, 15, 8, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("tone", "reason", "judged", "stalled", "light"),
    [
        ("go", "", True, False, Light.SAFE),
        ("go", "", False, False, Light.WAIT),
        ("go", "", True, True, Light.TROUBLE),
        ("wait", "not_quiet", True, False, Light.WAIT),
        ("wait", "not_sync_verified", True, False, Light.WAIT),
        ("wait", "not_sync_verified", True, True, Light.TROUBLE),
        ("wait", "held", True, False, Light.WAIT),
        ("work", "already_clearing", True, False, Light.WAIT),
        ("block", "not_looked_at", True, False, Light.WAIT),
        ("block", "writer_active", True, False, Light.WAIT),
        ("block", "writer_active", True, True, Light.TROUBLE),
        ("block", "not_in_manifest", True, False, Light.TROUBLE),
        ("block", "not_in_manifest", False, False, Light.WAIT),
        ("block", "", True, False, Light.TROUBLE),
        ("done", "", True, False, Light.TROUBLE),
        ("of another version", "", True, False, Light.TROUBLE),
    ],
)
def test_the_light_of_a_run(tone: str, reason: str, judged: bool, stalled: bool, light: Light) -> None:
    assert bench_light.of_run(tone, reason, judged=judged, stalled=stalled) is light


def test_of_all_reasons_that_block_only_those_of_a_run_under_way_are_amber() -> None:
    amber = {reason for reason in Reason if bench_light.of_run("block", reason) is Light.WAIT}
    assert amber == PASSING == {Reason.NOT_LOOKED_AT, Reason.WRITER_ACTIVE}


@pytest.mark.parametrize(
    ("may_be_written", "over_ceiling", "age", "light"),
    [
        (True, False, timedelta(0), Light.WAIT),
        (True, False, WRITTEN_LATELY, Light.WAIT),
        (True, False, WRITTEN_LATELY + A_SECOND, Light.TROUBLE),
        (True, True, timedelta(0), Light.TROUBLE),
        (False, False, timedelta(0), Light.TROUBLE),
    ],
)
def test_the_light_of_a_thing_that_is_no_run(
    may_be_written: bool, over_ceiling: bool, age: timedelta, light: Light
) -> None:
    found = bench_light.of_thing(
        may_be_written=may_be_written, over_ceiling=over_ceiling, written_at=NOW - age, now=NOW
    )
    assert found is light


@pytest.mark.parametrize(
    ("troubled", "looked_at", "light"),
    [
        (False, NOW, Light.SAFE),
        (False, NOW - OLD_LOOK, Light.SAFE),
        (False, NOW - OLD_LOOK - A_SECOND, Light.TROUBLE),
        (False, NOW + AHEAD, Light.SAFE),
        (False, NOW + AHEAD + A_SECOND, Light.TROUBLE),
        (False, None, Light.WAIT),
        (True, NOW, Light.TROUBLE),
        (True, None, Light.TROUBLE),
    ],
)
def test_the_light_of_a_disk(troubled: bool, looked_at: datetime | None, light: Light) -> None:
    assert bench_light.of_disk(troubled=troubled, looked_at=looked_at, now=NOW) is light


@pytest.mark.parametrize(
    ("disk", "runs", "things", "light"),
    [
        (Light.SAFE, [Light.SAFE, Light.SAFE], [], Light.SAFE),
        (Light.SAFE, [], [], Light.EMPTY),
        (Light.SAFE, [Light.SAFE, Light.WAIT], [], Light.WAIT),
        (Light.SAFE, [Light.WAIT, Light.TROUBLE], [], Light.TROUBLE),
        (Light.SAFE, [Light.SAFE], [Light.WAIT], Light.WAIT),
        (Light.SAFE, [], [Light.TROUBLE], Light.TROUBLE),
        (Light.WAIT, [Light.SAFE], [], Light.WAIT),
        (Light.TROUBLE, [Light.SAFE], [], Light.TROUBLE),
    ],
)
def test_the_worst_light_is_that_of_the_instrument(
    disk: Light, runs: list[Light], things: list[Light], light: Light
) -> None:
    assert bench_light.of_instrument(disk, runs, things) is light
