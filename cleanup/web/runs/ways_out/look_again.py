"""Look again now: the user has mended something."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from cleanup.lab.people import permissions
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run
from cleanup.rules.decisions import Gate, Verdict
from cleanup.rules.gates import AT_THE_CLEAR
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import run_paths
from cleanup.web.runs.ways_out.way_base import NoReasonForm, NotDone, Scene, Way

_BY_DISK = frozenset({Gate.STATE, Gate.PATH, Gate.HOLD, Gate.UNCHANGED, Gate.PROOF})
# Only a look tells whether these ended early, as when a file's time was corrected.
_UNTIL_AT_REST = frozenset({Reason.NOT_QUIET, Reason.FUTURE_DATED})


def _offered(scene: Scene) -> bool:
    """Whether a gate by the disk or the NAS refuses, not only for time, and this host has the disk."""
    if scene.decision is None or scene.run.root.host != settings.EXLAB_HOST:
        return False
    if Reason.ALREADY_CLEARING in scene.reasons:
        return False
    if _UNTIL_AT_REST & scene.reasons:
        return True
    refused = (result for result in scene.decision.refusals(operator=True) if result.verdict is Verdict.BLOCK)
    return any(result.gate in _BY_DISK and not result.detail.startswith(AT_THE_CLEAR) for result in refused)


def _act(scene: Scene, _data: Mapping[str, Any]) -> str:
    run = scene.run
    try:
        seen = discovery.look_at_path(run.root, run_paths.parse_run_path(run.run_path), now=scene.now)
    except Unreachable as error:
        raise NotDone(error.finding.said) from None
    if seen is None:
        raise NotDone("Discovery is looking at this staging root just now; see in a moment what comes of it.")
    after = Run.objects.get(pk=run.pk)
    return "Looked at just now; it stands as before." if after.reason == run.reason else "Looked at just now."


LOOK_AGAIN = Way(
    name="look-again",
    label="Look again",
    title="Look at this run again?",
    confirm="Look again",
    permission=permissions.CLEAR,
    offered=_offered,
    act=_act,
    template="cleanup/runs/ways/look.html",
    form=NoReasonForm,
)
