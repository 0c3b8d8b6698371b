"""Verify again here; an admin accepts the bytes, or withdraws that."""

from collections.abc import Mapping
from typing import Any

from cleanup.lab.people import permissions
from cleanup.models import ByteCheck, ClearAttempt
from cleanup.rules.decisions import Gate, Verdict
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.proofs import accepted_bytes, verify_again
from cleanup.runs.proofs.verify_again import NotAccepted
from cleanup.web.runs.ways_out.way_base import NoReasonForm, NotDone, Scene, Way, look_at_once

# Reasons that a comparison of all bytes explains or settles.
_TELLS = frozenset(
    {
        Reason.NO_VERIFIED_TIMESTAMP,
        Reason.NOT_IN_MANIFEST,
        Reason.MISSING_FILE,
        Reason.CHANGED_SINCE_VERIFICATION,
        Reason.MANIFEST_MISSING,
        Reason.MANIFEST_EMPTY,
        Reason.MANIFEST_UNREADABLE,
        Reason.NAS_MISSING_FILE,
        Reason.NAS_SIZE_MISMATCH,
        Reason.NAS_CHECKSUM_MISMATCH,
        Reason.ACCEPTANCE_VOID,
    }
)
_BY_BYTES = (Reason.NAS_CHECKSUM_MISMATCH, Reason.ACCEPTANCE_VOID)


def _is_open(scene: Scene) -> bool:
    if scene.decision is None or scene.run.state != State.SYNC_VERIFIED:
        return False
    return scene.decision.gate(Gate.FREE).verdict is Verdict.PASS


def _may_verify(scene: Scene) -> bool:
    if not _is_open(scene) or verify_again.active(scene.run):
        return False
    void = scene.facts.accepted is not None and not scene.facts.accepted.holds
    return void or bool(_TELLS & scene.reasons) or _refused_by_bytes(scene)


def _refused_by_bytes(scene: Scene) -> bool:
    """Whether a comparison found a difference that names and sizes do not show."""
    if hasattr(scene.run, "difference"):
        return True
    last = scene.run.attempts.clears().order_by("-created_at").first()
    return last is not None and last.phase in ClearAttempt.FAILED and last.reason in _BY_BYTES


def _verify(scene: Scene, _data: Mapping[str, Any]) -> str:
    check = verify_again.request(scene.run, actor=scene.user.get_username(), now=scene.now)
    if check.actor != scene.user.get_username():
        return f"{check.actor} has asked for this already; the page shows how far it is."
    return "Every byte of both sides is compared now; the page shows how far it is. It may take hours."


def _may_accept(scene: Scene) -> bool:
    if not _is_open(scene) or scene.run.root.allow_same_filesystem:
        return False
    check = verify_again.latest(scene.run)
    return check is not None and check.outcome == ByteCheck.Outcome.ALIKE and not hasattr(check, "accepted")


def _check_of(scene: Scene) -> dict[str, Any]:
    return {"check": verify_again.latest(scene.run)}


def _key_of(scene: Scene) -> str:
    check = verify_again.latest(scene.run)
    return str(check.pk) if check else ""


def _accept(scene: Scene, data: Mapping[str, Any]) -> str:
    check = verify_again.latest(scene.run)
    if check is None:
        raise NotDone("Nothing was compared.")
    try:
        verify_again.accept(check, actor=scene.user.get_username(), note=data["note"], now=scene.now)
    except NotAccepted as error:
        raise NotDone(error.said) from None
    look_at_once(scene)
    return "These bytes are accepted. A person may clear the run now; every byte is read again then."


def _may_withdraw(scene: Scene) -> bool:
    # Also during a clear: its commit checks the acceptance.
    return scene.decision is not None and accepted_bytes.standing(scene.run) is not None


def _withdraw(scene: Scene, data: Mapping[str, Any]) -> str:
    try:
        verify_again.withdraw(scene.run, actor=scene.user.get_username(), note=data["note"], now=scene.now)
    except NotAccepted as error:
        raise NotDone(error.said) from None
    look_at_once(scene)
    return "The acceptance is withdrawn."


def _acceptance(scene: Scene) -> dict[str, Any]:
    return {"acceptance": accepted_bytes.standing(scene.run)}


def _key_of_acceptance(scene: Scene) -> str:
    found = accepted_bytes.standing(scene.run)
    return str(found.pk) if found else ""


_DENIED = (
    "To accept bytes in place of a manifest is an admin's right (accept_bytes); what keeps the run stays as it is."
)

VERIFY_AGAIN = Way(
    name="verify-again",
    label="Verify again here…",
    title="Verify this run again here?",
    confirm="Compare every byte",
    permission=permissions.CLEAR,
    offered=_may_verify,
    act=_verify,
    template="cleanup/runs/ways/verify.html",
    form=NoReasonForm,
)
ACCEPT = Way(
    name="accept-bytes",
    label="Accept these bytes…",
    title="Accept these bytes in place of the manifest?",
    confirm="Accept these bytes",
    permission=permissions.ACCEPT,
    offered=_may_accept,
    asks=_check_of,
    seen=_key_of,
    act=_accept,
    template="cleanup/runs/ways/accept.html",
    denied=_DENIED,
)
WITHDRAW = Way(
    name="withdraw-acceptance",
    label="Withdraw the acceptance…",
    title="Withdraw the acceptance?",
    confirm="Withdraw it",
    permission=permissions.ACCEPT,
    offered=_may_withdraw,
    asks=_acceptance,
    seen=_key_of_acceptance,
    act=_withdraw,
    template="cleanup/runs/ways/withdraw.html",
    denied=_DENIED,
)
