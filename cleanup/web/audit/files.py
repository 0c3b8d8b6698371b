"""Tables of the audit as files, streamed."""

import logging
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.ledger import exports, period, raw_table
from cleanup.ledger.period import NoPeriod, Period
from cleanup.ledger.tables import Table
from cleanup.web.audit import questions
from cleanup.web.decorators import may_audit
from cleanup.web.requests import SignedIn

logger = logging.getLogger(__name__)

# What a file is by the end of its name.
KINDS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
# Files on their way from one process: each keeps a thread and a connection to the database from the pages.
_AT_A_TIME = 2
_turns = BoundedSemaphore(_AT_A_TIME)
# These cover all times where no period is asked for.
_WHOLE = (raw_table.NAME, "clears")


class FileParts:
    """The parts of a file; the turn that it takes ends with it, however it ends."""

    def __init__(self, parts: Iterator[bytes], end: Callable[[], None]) -> None:
        self._parts = parts
        self._end: Callable[[], None] | None = end

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """End the turn, once."""
        end, self._end = self._end, None
        if end is not None:
            end()


@require_safe
@may_audit
def audit_table(request: SignedIn, name: str, kind: str) -> HttpResponseBase:
    """A table as a file of a period."""
    if name not in exports.names() or kind not in KINDS:
        raise Http404
    try:
        found = questions.asked_period(request.GET, timezone.localdate())
    except NoPeriod as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    wanted = found[0] if found else None
    if wanted is None and name not in _WHOLE:
        wanted = period.of_year(timezone.localdate().year)
    return _file(request, exports.table(name, wanted), kind, wanted)


@require_safe
@may_audit
def audit_ledger(request: SignedIn, kind: str) -> HttpResponseBase:
    """The ledger as a file; without a period whole."""
    answer: HttpResponseBase = audit_table(request, raw_table.NAME, kind)
    return answer


def _file(request: SignedIn, table: Table, kind: str, wanted: Period | None) -> HttpResponseBase:
    days = f"-{wanted.first}-{wanted.last}" if wanted else ""
    headers = {"Content-Disposition": f'attachment; filename="exlab-{table.name}{days}.{kind}"'}
    if request.method == "HEAD":
        return HttpResponse(content_type=KINDS[kind], headers=headers)
    if not _turns.acquire(blocking=False):
        said = f"{_AT_A_TIME} files are being written just now. Try again when they are done.\n"
        return HttpResponse(said, status=503, content_type="text/plain; charset=utf-8", headers={"Retry-After": "30"})
    logger.info("%s takes the table %s%s as %s", request.user.get_username(), table.name, days, kind)
    bom = request.GET.get("bom") == "1"
    parts = exports.as_csv(table, bom=bom) if kind == "csv" else exports.as_json_lines(table)
    return StreamingHttpResponse(FileParts(parts, _turns.release), content_type=KINDS[kind], headers=headers)
