"""All ways out, in the order of the page."""

from cleanup.web.runs.ways_out.identity import ANOTHER_RUN, SAME_RUN
from cleanup.web.runs.ways_out.likeness import NOT_THE_SAME
from cleanup.web.runs.ways_out.look_again import LOOK_AGAIN
from cleanup.web.runs.ways_out.set_aside import PUT_BACK, SET_ASIDE
from cleanup.web.runs.ways_out.verify import ACCEPT, VERIFY_AGAIN, WITHDRAW
from cleanup.web.runs.ways_out.way_base import Way

WAYS: tuple[Way, ...] = (
    SET_ASIDE,
    VERIFY_AGAIN,
    ACCEPT,
    SAME_RUN,
    ANOTHER_RUN,
    NOT_THE_SAME,
    LOOK_AGAIN,
    PUT_BACK,
    WITHDRAW,
)
