"""The parts of a disk, as wide as they are large."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleanup.web.overview.disk_bar import NARROWEST, WIDTH, widths_of

pytestmark = pytest.mark.one_engine(by="function")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10**14), min_size=1, max_size=6))
def test_a_bar_is_in_true_proportion_but_for_parts_too_small_to_be_seen(sizes):
    widths, whole = widths_of(sizes), sum(sizes)
    assert sum(widths) == (WIDTH if whole else 0)
    assert all(width >= NARROWEST for width, size in zip(widths, sizes, strict=True) if size)
    assert not any(width for width, size in zip(widths, sizes, strict=True) if not size)
    true = [size * WIDTH / whole if whole else 0 for size in sizes]
    lent = sum(NARROWEST for each, size in zip(true, sizes, strict=True) if size and each < NARROWEST + 1)
    for width, each in zip(widths, true, strict=True):
        assert each - lent - 1 <= width <= max(each + 1, NARROWEST)
