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
    lent = 0
    for width, size in zip(widths, sizes, strict=True):
        true = size * WIDTH / whole if whole else 0
        if width == NARROWEST and true < NARROWEST:
            lent += NARROWEST
        elif width != max(widths):
            assert abs(width - true) <= 1
    assert max(widths) >= max(sizes) * WIDTH / (whole or 1) - lent - 1
