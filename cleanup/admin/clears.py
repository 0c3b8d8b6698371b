"""Clears and the ledger."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from cleanup.admin.base import OF_A_RUN, ReadOnly
from cleanup.models import (
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
)
from cleanup.text.values import exact_bytes, in_units, instant, sentence, visible


@admin.register(ClearAttempt)
class ClearAttemptAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("created_at", "run", "kind", "phase", "requester", "actor", "freed_files", "size", "why", "told")
    list_filter = ("phase", "kind", "requester", "actor", ("told_at", admin.EmptyFieldListFilter))
    list_select_related = ("run",)
    search_fields = ("run__run_path", "note")
    date_hierarchy = "created_at"

    @admin.display(description="freed logical", ordering="freed_bytes")
    def size(self, attempt: ClearAttempt) -> str:
        return in_units(attempt.freed_bytes)

    @admin.display(description="reason", ordering="reason")
    def why(self, attempt: ClearAttempt) -> str:
        return sentence(attempt.reason)

    @admin.display(description="the NAS was told", ordering="told_at")
    def told(self, attempt: ClearAttempt) -> str:
        return instant(attempt.told_at) if attempt.told_at else sentence(attempt.tell_reason)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    place = OF_A_RUN
    change_list_template = "admin/cleanup/ledgerentry/change_list.html"
    list_display = (
        "moment",
        "kind",
        "path_shown",
        "requester",
        "actor",
        "typed",
        "files",
        "logical",
        "allocated",
        "measured",
        "proof_level",
        "why",
    )
    list_filter = ("at", "kind", "equipment", "project", "actor", "requester", "typed_by")
    search_fields = ("run_path", "actor", "typed_by")
    date_hierarchy = "at"

    @admin.display(description="at", ordering="at")
    def moment(self, entry: LedgerEntry) -> str:
        return instant(entry.at)

    @admin.display(description="run path", ordering="run_path")
    def path_shown(self, entry: LedgerEntry) -> str:
        return visible(entry.run_path)

    @admin.display(description="typed by the account", ordering="typed_by")
    def typed(self, entry: LedgerEntry) -> str:
        return visible(entry.typed_by)

    @admin.display(description="logical bytes", ordering="bytes")
    def logical(self, entry: LedgerEntry) -> str:
        return exact_bytes(entry.bytes)

    @admin.display(description="allocated bytes", ordering="allocated_bytes")
    def allocated(self, entry: LedgerEntry) -> str:
        return exact_bytes(entry.allocated_bytes)

    @admin.display(description="measured bytes", ordering="measured_bytes")
    def measured(self, entry: LedgerEntry) -> str:
        return "—" if entry.measured_bytes is None else exact_bytes(entry.measured_bytes)

    @admin.display(description="reason", ordering="reason")
    def why(self, entry: LedgerEntry) -> str:
        return sentence(entry.reason)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context: dict[str, Any] | None = getattr(response, "context_data", None)
        if context and "cl" in context:
            context["totals"] = context["cl"].queryset.totals()
            context["measured"] = context["cl"].queryset.measured()
        return response


@admin.register(ClearBatch)
class ClearBatchAdmin(ReadOnly):
    list_display = ("created_at", "asked_for_by", "said", "paused_at", "stopped_at")
    list_filter = ("actor",)
    date_hierarchy = "created_at"

    @admin.display(description="asked for by", ordering="actor")
    def asked_for_by(self, batch: ClearBatch) -> str:
        return visible(batch.actor)

    @admin.display(description="reason given", ordering="note")
    def said(self, batch: ClearBatch) -> str:
        return visible(batch.note)
