"""The last comparison of database, disks, NAS and data directory, host by host."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.models import Reconciliation
from cleanup.monitoring.reconciliation import findings
from cleanup.monitoring.reconciliation.findings import Mismatch, MismatchKind
from cleanup.web.decorators import may_audit
from cleanup.web.requests import SignedIn

# So many of each kind are shown; the command lists more.
SHOWN = 50


@dataclass(frozen=True)
class MismatchGroup:
    """All mismatches of one kind on one host; `found` are the first ones."""

    kind: MismatchKind
    count: int
    found: list[Mismatch]

    @property
    def more(self) -> int:
        return self.count - len(self.found)


@dataclass(frozen=True)
class HostResult:
    """The last pass of one host."""

    row: Reconciliation
    groups: list[MismatchGroup]

    @property
    def serious(self) -> int:
        return sum(group.count for group in self.groups if group.kind.is_serious)

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)


@require_safe
@may_audit
def reconcile(request: SignedIn) -> HttpResponse:
    hosts = [HostResult(row, list(_groups(row))) for row in Reconciliation.objects.order_by("host")]
    named = {each.run for host in hosts for group in host.groups for each in group.found if each.run is not None}
    context = {
        "hosts": hosts,
        "any": any(host.groups for host in hosts),
        "open_runs": permissions.open_to(request.user, named),
        "now": timezone.now(),
    }
    return render(request, "cleanup/audit/reconcile.html", context)


def _groups(row: Reconciliation) -> Iterable[MismatchGroup]:
    kept = findings.from_json(row.counts, row.found)
    for kind in MismatchKind:
        if count := kept.counts[kind]:
            yield MismatchGroup(kind, count, [each for each in kept.in_order if each.kind is kind][:SHOWN])
