"""The notice of an instrument: a public page that says how long data stays, and prints on one sheet."""

import uuid
from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.ledger import kept_times
from cleanup.ledger.kept_times import KeptTimes
from cleanup.models import Instrument, RetentionPolicy, RunKind
from cleanup.rules.policies.promise import promise_of
from cleanup.text import notice as words
from cleanup.web.requests import SignedIn

DAYS = 90
# Anyone may ask, and the ledger is long: the numbers may be this old. The rules are those of the moment.
KEPT_FOR = timedelta(minutes=5)
_MOST_KEPT = 200
_kept: dict[uuid.UUID, KeptTimes] = {}


@login_not_required
@require_safe
def notice(request: SignedIn, token: uuid.UUID) -> HttpResponse:
    instrument = get_object_or_404(Instrument.objects.select_related("root"), token=token)
    if not instrument.notice:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not permissions.instruments(request.user).filter(pk=instrument.pk).exists():
            raise Http404
    now = timezone.now()
    promise = promise_of(
        RetentionPolicy.objects.scoped(), instrument.root.name, instrument.equipment, map(str, RunKind)
    )
    numbers = _numbers(instrument, now)
    context = {
        "instrument": instrument,
        "rules": words.rules(promise),
        "happened": words.happened(numbers, promise),
        "numbers": numbers,
        "days": DAYS,
        "now": now,
    }
    return render(request, "cleanup/instruments/notice.html", context)


def _numbers(instrument: Instrument, now: datetime) -> KeptTimes:
    kept = _kept.get(instrument.token)
    if kept is not None and now - KEPT_FOR < kept.at <= now:
        return kept
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[instrument.token] = kept_times.of_instrument(instrument, now - timedelta(days=DAYS), now)
    return _kept[instrument.token]
