"""Every way out, in the order in which a run's page offers them."""

from cleanup.views.ways.frame import Way
from cleanup.views.ways.identity import ANOTHER_RUN, SAME_RUN
from cleanup.views.ways.likeness import NOT_THE_SAME
from cleanup.views.ways.look import LOOK_AGAIN
from cleanup.views.ways.set_aside import PUT_BACK, SET_ASIDE
from cleanup.views.ways.verify import ACCEPT, VERIFY_AGAIN, WITHDRAW

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
