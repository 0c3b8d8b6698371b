"""The receipt of a clear: its page, and its files to take along."""

from importlib import resources
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.lab.roots import opening
from cleanup.ledger import receipts as receipt_modules
from cleanup.models import ClearAttempt, LedgerKind, Phase, Receipt, Run
from cleanup.rules.states import State
from cleanup.storage.data_directory import kept_receipts
from cleanup.web.decorators import may_see_receipts
from cleanup.web.requests import SignedIn

SHOWN_ENTRIES = 50
SHOWN_RECEIPTS = 5
SCRIPT_NAME = "check_receipt.py"


@require_safe
@may_see_receipts
def receipt(request: SignedIn, pk: int) -> HttpResponse:
    """The receipt of a clear, also of one by another program in the wizard's record."""
    run = get_object_or_404(_runs(request.user).select_related("root"), pk=pk)
    may_look = permissions.may(request.user, permissions.VIEW, run)
    about = {"run": run, "may_look": may_look, "now": timezone.now()}
    attempt = _attempts(run).select_related("proof__accepted", "batch").first()
    authorised = attempt and attempt.ledger.filter(kind=LedgerKind.AUTHORISED).first()
    if attempt is None and run.cleared_by and run.state == State.CLEARED:
        said = run.events.filter(state=State.CLEARED).first()
        return render(request, "cleanup/runs/receipt_other.html", about | {"said": said})
    if attempt is None or authorised is None:
        raise Http404
    freeing = attempt.ledger.freeing().order_by("at", "pk")
    context = {
        "attempt": attempt,
        "authorised": authorised,
        "entries": freeing[:SHOWN_ENTRIES],
        "more_entries": max(freeing.count() - SHOWN_ENTRIES, 0),
        "left_files": attempt.planned_files - attempt.freed_files,
        "left_bytes": attempt.planned_bytes - attempt.freed_bytes,
        "returns": run.returns.order_by("pk"),
    }
    return render(request, "cleanup/runs/receipt.html", about | context | _signed(attempt))


def _signed(attempt: ClearAttempt) -> dict[str, Any]:
    receipts = list(attempt.receipts.order_by("-number")[: SHOWN_RECEIPTS + 1])
    newest = receipts[0] if receipts else None
    names = {}
    if newest is not None:
        names = {
            "file_name": kept_receipts.receipt_name(attempt.pk.hex, newest.number),
            "key_name": kept_receipts.key_name(newest.fingerprint),
        }
    here = newest is not None and newest.host == settings.EXLAB_HOST
    return {"signed": newest, "earlier": receipts[1:], "signed_here": here, **names}


@require_safe
@may_see_receipts
def receipt_file(request: SignedIn, pk: int, what: str) -> FileResponse:
    """A file of a receipt as it lies in this host's data directory; `?number=` asks for an earlier receipt."""
    receipt = _receipt_asked(request, pk)
    data, attempt = opening.data_dir(), receipt.attempt.pk.hex
    names = {
        "receipt": kept_receipts.receipt_name(attempt, receipt.number),
        "list": kept_receipts.list_name(attempt),
        "key": kept_receipts.key_name(receipt.fingerprint),
    }
    types = {"receipt": "application/json", "list": "application/jsonl", "key": "application/x-pem-file"}
    try:
        # Names of our own making only; a damaged file is handed out too, and its signature tells.
        file = open(kept_receipts.path_of(data, names[what]), "rb")  # noqa: SIM115
    except OSError:
        raise Http404("not in this host's data directory") from None
    return FileResponse(file, as_attachment=True, filename=names[what], content_type=types[what])


@require_safe
@may_see_receipts
def receipt_script(request: SignedIn, pk: int) -> FileResponse:
    """The script that checks receipts without this program, beside a receipt: this program's own module."""
    get_object_or_404(_runs(request.user), pk=pk)
    script = resources.files(receipt_modules).joinpath("checking.py").open("rb")
    return FileResponse(script, as_attachment=True, filename=SCRIPT_NAME, content_type="text/x-python; charset=utf-8")


def _receipt_asked(request: SignedIn, pk: int) -> Receipt:
    run = get_object_or_404(_runs(request.user), pk=pk)
    attempt = _attempts(run).first()
    number = request.GET.get("number", "")
    found = Receipt.objects.filter(attempt=attempt, host=settings.EXLAB_HOST).select_related("attempt")
    if number:
        found = found.filter(number=int(number)) if number.isdecimal() and len(number) < 7 else found.none()
    if attempt is None or (receipt := found.order_by("-number").first()) is None:
        raise Http404
    return receipt


def _attempts(run: Run) -> "QuerySet[ClearAttempt]":
    return ClearAttempt.objects.clears().filter(run=run, phase=Phase.DONE).order_by("-created_at")


def _runs(user: User) -> "QuerySet[Run]":
    # An auditor sees everywhere what was freed.
    return Run.objects.all() if user.has_perm(permissions.AUDIT) else permissions.runs(user)
