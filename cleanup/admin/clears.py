"""Clears and the ledger."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cleanup.admin.base import OF_A_RUN, ActorFilter, InstrumentFilter, OrderedChangeList, ProjectFilter, ReadOnly
from cleanup.models import (
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
    LedgerHead,
    LedgerKind,
    LedgerLink,
)
from cleanup.text.values import count, exact_bytes, exact_instant, in_units, sentence, visible

# Rows of these kinds say what a clear has freed.
FREEING = (LedgerKind.COMPLETED, LedgerKind.PARTIAL)


@admin.register(ClearAttempt)
class ClearAttemptAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("created_at", "run", "kind", "phase", "requester", "actor", "freed_files", "size", "why", "told")
    list_filter = ("phase", "kind", "requester", ActorFilter, ("told_at", admin.EmptyFieldListFilter))
    list_select_related = ("run",)
    search_fields = ("run__run_path", "note")

    @admin.display(description="freed logical", ordering="freed_bytes")
    def size(self, attempt: ClearAttempt) -> str:
        return in_units(attempt.freed_bytes)

    @admin.display(description="reason", ordering="reason")
    def why(self, attempt: ClearAttempt) -> str:
        return sentence(attempt.reason)

    @admin.display(description="the NAS was told", ordering="told_at")
    def told(self, attempt: ClearAttempt) -> str:
        return exact_instant(attempt.told_at) if attempt.told_at else sentence(attempt.tell_reason)


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
        "pages",
    )
    # Only this order has an index: millions of rows are not sorted, nor asked for the values that occur in them.
    sortable_by = ("moment",)
    list_filter = ("at", "kind", InstrumentFilter, ProjectFilter, ActorFilter, "requester")
    search_fields = ("run_path", "actor", "typed_by")
    readonly_fields = ("pages", "vouched_for")

    @admin.display(description="pages")
    def pages(self, entry: LedgerEntry) -> SafeString | str:
        if entry.run_id is None:
            return "—"
        run = format_html('<a href="{}">Run</a>', reverse("run-detail", args=[entry.run_id]))
        if entry.kind not in FREEING:
            return run
        return format_html('{} · <a href="{}">Receipt</a>', run, reverse("receipt", args=[entry.run_id]))

    @admin.display(description="link of the chain")
    def vouched_for(self, entry: LedgerEntry) -> SafeString | str:
        link = LedgerLink.objects.filter(entry=entry).first()
        if link is None:
            return "None: the row is from before the chain began."
        address = reverse("admin:cleanup_ledgerlink_change", args=[link.pk])
        return format_html('<a href="{}">{}</a> {}', address, count(link.position), link.sha256)

    @admin.display(description="at", ordering="at")
    def moment(self, entry: LedgerEntry) -> str:
        return exact_instant(entry.at)

    @admin.display(description="run path")
    def path_shown(self, entry: LedgerEntry) -> str:
        return visible(entry.run_path)

    @admin.display(description="typed by the account")
    def typed(self, entry: LedgerEntry) -> str:
        return visible(entry.typed_by)

    @admin.display(description="logical bytes")
    def logical(self, entry: LedgerEntry) -> str:
        return exact_bytes(entry.bytes)

    @admin.display(description="allocated bytes")
    def allocated(self, entry: LedgerEntry) -> str:
        return exact_bytes(entry.allocated_bytes)

    @admin.display(description="measured bytes")
    def measured(self, entry: LedgerEntry) -> str:
        return "—" if entry.measured_bytes is None else exact_bytes(entry.measured_bytes)

    @admin.display(description="reason")
    def why(self, entry: LedgerEntry) -> str:
        return sentence(entry.reason)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context: dict[str, Any] | None = getattr(response, "context_data", None)
        if context and isinstance(listed := context.get("cl"), OrderedChangeList) and not listed.is_capped:
            context["totals"] = listed.queryset.totals()
            context["measured"] = listed.queryset.measured()
        return response


@admin.register(LedgerLink)
class LedgerLinkAdmin(ReadOnly):
    """In the order of the chain, the newest first."""

    list_display = ("position", "entry_shown", "content_sha256", "sha256")
    sortable_by = ("position",)
    ordering = ("-position",)
    list_select_related = ("entry",)
    fields = ("position", "entry_shown", "form", "content_sha256", "sha256")
    readonly_fields = ("entry_shown",)

    @admin.display(description="row of the ledger")
    def entry_shown(self, link: LedgerLink) -> SafeString:
        address = reverse("admin:cleanup_ledgerentry_change", args=[link.entry_id])
        return format_html('<a href="{}">{} {}</a>', address, link.entry.kind, visible(link.entry.run_path))


@admin.register(LedgerHead)
class LedgerHeadAdmin(ReadOnly):
    list_display = ("installation", "position", "sha256", "last_entry", "began_after", "unvouched")


@admin.register(ClearBatch)
class ClearBatchAdmin(ReadOnly):
    list_display = ("created_at", "asked_for_by", "said", "starts_at", "paused_at", "stopped_at")
    list_filter = ("actor",)
    date_hierarchy = "created_at"

    @admin.display(description="asked for by", ordering="actor")
    def asked_for_by(self, batch: ClearBatch) -> str:
        return visible(batch.actor)

    @admin.display(description="reason given", ordering="note")
    def said(self, batch: ClearBatch) -> str:
        return visible(batch.note)
