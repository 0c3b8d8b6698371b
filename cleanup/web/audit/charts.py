"""Pictures of the audit at their own addresses, and the pages that show each with its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from csp.constants import NONE, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from cleanup.ledger import period
from cleanup.ledger.period import NoPeriod, Period
from cleanup.ledger.tables import Kind, Table
from cleanup.models import StagingRoot
from cleanup.rules.quantities import Scale, scale_of
from cleanup.text.values import count, in_units, visible
from cleanup.web.audit import disk_figures, figures, questions
from cleanup.web.audit.figures import Figure
from cleanup.web.audit.plot import NARROW, WIDE, draw
from cleanup.web.audit.sight import Sight, sight_of
from cleanup.web.requests import SignedIn

CHARTS = {
    "freed": "Freed per month, by instrument",
    "disks": "Use of each staging disk",
    "age": "Age of staged bytes",
    "reasons": "What blocks runs",
}
# How an address says a period, as on the page of what was freed.
_ASKED = ("year", "month", "since", "until")
# A picture holds its own styles, and nothing else.
_OF_A_PICTURE = {"default-src": [NONE], "style-src": [UNSAFE_INLINE], "form-action": [NONE], "base-uri": [NONE]}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure for a page; `cells` are (text, whether it is a number)."""

    address: str
    narrow_address: str
    title: str
    alt: str
    width: int = WIDE
    narrow_width: int = NARROW
    figure: Figure | None = None
    cells: list[list[tuple[str, bool]]] | None = None


@require_safe
def charts(request: SignedIn) -> HttpResponse:
    """All pictures; each one's page has its numbers."""
    sight = sight_of(request.user)
    shown = []
    for name, title in CHARTS.items():
        if name == "freed" and not sight.audits:
            continue
        roots = sight.roots if name == "disks" else (None,)
        pictures = [
            _picture(name, root, {}, f"{title if root is None else visible(root.name)}. Its page has the numbers.")
            for root in roots
        ]
        shown.append({"name": name, "title": title, "pictures": pictures})
    return render(request, "cleanup/audit/charts.html", {"shown": shown})


@require_safe
@csp_replace(_OF_A_PICTURE)  # type: ignore[arg-type]  # our requests know their user
def chart(request: SignedIn, name: str) -> HttpResponse:
    """One picture as SVG; `?narrow` is for phones."""
    sight = sight_of(request.user)
    roots = _roots(request, sight, name)
    if name == "disks" and len(roots) != 1:
        raise Http404
    made = _figure(request, sight, name, roots[0] if roots else None, timezone.now())
    return HttpResponse(draw(made.plot, narrow="narrow" in request.GET), content_type="image/svg+xml")


@require_safe
def chart_page(request: SignedIn, name: str) -> HttpResponse:
    """One picture, or one for each disk, with its numbers as a table."""
    sight, now = sight_of(request.user), timezone.now()
    asked = {key: request.GET[key] for key in _ASKED if key in request.GET}
    shown = []
    roots = _roots(request, sight, name)
    for root in roots if name == "disks" else (None,):
        made = _figure(request, sight, name, root, now)
        shown.append(_picture(name, root, asked, made.alt, made))
    days, trouble = _period(request)
    about = {"name": name, "title": CHARTS[name], "period": days, "trouble": trouble}
    return render(request, "cleanup/audit/chart.html", about | {"shown": shown, "asked": asked})


def _figure(request: SignedIn, sight: Sight, name: str, root: StagingRoot | None, now: datetime) -> Figure:
    if name == "freed":
        if not sight.audits:
            raise PermissionDenied
        return figures.freed(_period(request)[0])
    if name == "disks" and root is not None:
        return disk_figures.disk(root, sight, now)
    return figures.age(sight, now) if name == "age" else figures.reasons(sight)


def _roots(request: SignedIn, sight: Sight, name: str) -> list[StagingRoot]:
    if name not in CHARTS:
        raise Http404
    if name != "disks":
        return []
    key = request.GET.get("root", "")
    if not key:
        return list(sight.roots)
    return list(sight.roots.filter(pk=key)) if key.isascii() and key.isdigit() and len(key) < 19 else []


def _period(request: SignedIn) -> tuple[Period, str]:
    """The days that an address names, this year without; and why they are none."""
    today = timezone.localdate()
    try:
        return questions.read(request.GET, today).period, ""
    except NoPeriod as error:
        return Period(today, period.of_year(today.year - 1).last), str(error)


def _picture(
    name: str, root: StagingRoot | None, asked: dict[str, str], alt: str, figure: Figure | None = None
) -> Picture:
    query = {**asked, **({"root": root.pk} if root is not None else {})}
    address = reverse("audit-chart", args=[name])
    return Picture(
        address=_with(address, query),
        narrow_address=_with(address, {**query, "narrow": "1"}),
        title=CHARTS[name] if root is None else visible(root.name),
        alt=alt,
        figure=figure,
        cells=None if figure is None else _cells(figure.table),
    )


def _with(address: str, query: dict[str, Any]) -> str:
    return f"{address}?{urlencode(query)}" if query else address


def _cells(table: Table) -> list[list[tuple[str, bool]]]:
    if table.name == "freed" and table.rows:
        scale = scale_of(max(row[-1] for row in table.rows))
        return [[_cell(row[0], Kind.TEXT), *_added_up(row[1:-1], scale)] for row in table.rows]
    kinds = [column.kind for column in table.columns]
    return [[_cell(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in _rows(table)]


def _added_up(sizes: Sequence[int], scale: Scale) -> list[tuple[str, bool]]:
    """Sizes in one unit, and their sum as it is read."""
    return [*((scale.say(size), True) for size in sizes), (scale.say_sum(sizes), True)]


def _rows(table: Table) -> Iterable[tuple[Any, ...]]:
    return table.rows


def _cell(value: Any, kind: Kind) -> tuple[str, bool]:  # noqa: ANN401
    if kind is Kind.BYTES:
        return in_units(value), True
    return (count(value), True) if kind is Kind.COUNT else (visible(value), False)
