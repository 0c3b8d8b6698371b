"""What waits for an operator: as far as a user may see it, in groups of alike ones, and who has each group."""

from cleanup.monitoring.problems.counting import MOST, Counted, count, counted
from cleanup.monitoring.problems.group import SHOWN_OF_GROUP, Checked, ProblemGroup
from cleanup.monitoring.problems.kinds import OpenProblem, ProblemKey, ProblemKind, Urgency
from cleanup.monitoring.problems.listing import checked, listed
from cleanup.monitoring.problems.seen import (
    BLOCKED_LOOKED_AT,
    alerts,
    breakers,
    may,
    nas_in_trouble,
    roots_in_trouble,
    visible_orphans,
)

__all__ = [
    "BLOCKED_LOOKED_AT",
    "MOST",
    "SHOWN_OF_GROUP",
    "Checked",
    "Counted",
    "OpenProblem",
    "ProblemGroup",
    "ProblemKey",
    "ProblemKind",
    "Urgency",
    "alerts",
    "breakers",
    "checked",
    "count",
    "counted",
    "listed",
    "may",
    "nas_in_trouble",
    "roots_in_trouble",
    "visible_orphans",
]
