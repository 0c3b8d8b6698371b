"""The admin's view of the tables. What records the past is shown and never changed.

Staff see here what they may see elsewhere: rows of the places where they have the permission to look at a table. What
belongs to no run and no staging root is for those who have it everywhere.
"""

import uuid
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_permission_codename
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_q import admin as queue_admin  # noqa: F401  # registers its pages, which are taken away below
from django_q.models import Failure, OrmQ, Schedule, Success

from cleanup.forms import StagingRootForm
from cleanup.lab import permissions, sessions, twins
from cleanup.lab.permissions import Places
from cleanup.models import (
    AcceptedBytes,
    Access,
    Alert,
    Announcement,
    ByteCheck,
    ClearAttempt,
    ClearBatch,
    DiskUsage,
    Heartbeat,
    Hold,
    HostClock,
    IngestEvent,
    Instrument,
    LedgerEntry,
    Likeness,
    NasBreaker,
    Orphan,
    Project,
    Proof,
    RetentionPolicy,
    RootNote,
    Run,
    StagingRoot,
    Surprise,
    Sweep,
    SweepBreaker,
    SweptRun,
)
from cleanup.rules.sentences import say_field
from cleanup.templatetags.passes import because
from cleanup.templatetags.words import exact_bytes, in_units, instant, sentence, visible

admin.site.site_header = "ExLab staging: administration"
admin.site.site_title = "ExLab staging"
admin.site.index_title = "Tables"
admin.site.enable_nav_sidebar = False


# The columns by which a row belongs to a staging root and an instrument.
Place = tuple[str, str]
OF_A_RUN: Place = ("run__root", "run__equipment")
OF_A_ROOT: Place = ("root", "")


class Placed(admin.ModelAdmin):  # type: ignore[type-arg]  # Django itself has no such brackets
    """A table of which everybody sees the rows of their own places. Without `place` its rows belong to no place."""

    place: ClassVar[Place | None] = None

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found = super().get_queryset(request)
        places = self.places(request, "view")
        if self.place is None:
            return found if places.everywhere else found.none()
        root, equipment = self.place
        return found.filter(places.q(root, equipment))

    def places(self, request: HttpRequest, action: str) -> Places:
        """Where somebody may `view` or `change` rows of this table."""
        return permissions.places(request.user, f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}")


class RootFilter(admin.RelatedFieldListFilter):
    """Staging roots to filter by: those that one may see."""

    def field_choices(
        self,
        field: "Field[Any, Any]",
        request: HttpRequest,
        model_admin: "admin.ModelAdmin[Any]",
    ) -> list[tuple[str, Any]]:
        return [(str(root.pk), root.name) for root in permissions.roots(request.user)]


class InstrumentFilter(admin.SimpleListFilter):
    """Instruments to filter runs by, without asking a million runs for them."""

    title = parameter_name = "equipment"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        found = permissions.instruments(request.user).order_by("equipment").values_list("equipment", flat=True)
        return [(name, visible(name)) for name in found.distinct()]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(equipment=self.value()) if self.value() else queryset


class ProjectFilter(admin.SimpleListFilter):
    """Projects to filter runs by; which of them lie in somebody's places only the runs would tell."""

    title = parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        if not permissions.places(request.user, permissions.VIEW).everywhere:
            return []
        return [(code, visible(code)) for code in Project.objects.values_list("code", flat=True)]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(project=self.value()) if self.value() else queryset


class ReadOnly(Placed):
    """A table to look at: no adding, changing or deleting, not even as an action."""

    actions = None
    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(StagingRoot)
class StagingRootAdmin(Placed):
    """Roots come by `add_staging_root` alone, which lays the tokens; here they can be renamed and corrected."""

    place = ("pk", "")
    form = StagingRootForm
    actions = None
    list_display = ("name", "host", "path", "nas_path", "discovered_at", "trouble")
    fields = (
        "name",
        "host",
        "path",
        "token",
        "nas_path",
        "nas_token",
        "nas_layout",
        "instrument_nas",
        "allow_same_filesystem",
        "allow_union_nas",
        "nas_writes_through",
        "created_at",
        "discovered_at",
        "trouble",
    )
    readonly_fields = (
        "host",
        "path",
        "token",
        "nas_token",
        "instrument_nas",
        "created_at",
        "discovered_at",
        "trouble",
    )

    def save_model(self, request: HttpRequest, obj: StagingRoot, form: Any, change: bool) -> None:  # noqa: ANN401
        super().save_model(request, obj, form, change)
        twins.note_places(obj)

    @admin.display(description="problem")
    def trouble(self, root: StagingRoot) -> str:
        return sentence(root.problem)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or self.places(request, "change").include(obj.pk, ""))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Run)
class RunAdmin(ReadOnly):
    place = ("root", "equipment")
    list_display = (
        "path_shown",
        "root",
        "state",
        "run_kind",
        "size",
        "files",
        "verified_at",
        "looked_at",
        "failures",
        "gone_at",
        "trouble",
    )
    list_filter = (
        "state",
        "run_kind",
        ("root", RootFilter),
        InstrumentFilter,
        ProjectFilter,
        ("gone_at", admin.EmptyFieldListFilter),
    )
    list_select_related = ("root",)
    search_fields = ("run_path", "project_name")

    @admin.display(description="run path", ordering="run_path")
    def path_shown(self, run: Run) -> str:
        return visible(run.run_path)

    @admin.display(description="size", ordering="bytes")
    def size(self, run: Run) -> str:
        return in_units(run.bytes)

    @admin.display(description="problem", ordering="problem")
    def trouble(self, run: Run) -> str:
        return sentence(run.problem)


@admin.register(IngestEvent)
class IngestEventAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("run", "position", "state", "at", "host", "first_seen_at")
    list_filter = ("state",)
    list_select_related = ("run",)
    search_fields = ("run__run_path",)


@admin.register(RetentionPolicy)
class RetentionPolicyAdmin(ReadOnly):
    """A change adds a version, by `set_policy`."""

    list_display = (
        "version",
        "root",
        "equipment",
        "project",
        "run_kind",
        "mode",
        "kept",
        "proof",
        "rehearsal",
        "why",
        "written_by",
        "typed",
        "created_at",
    )
    list_filter = ("mode", "rehearsal", "equipment", "project")
    list_select_related = ("root",)

    @admin.display(description="note", ordering="note")
    def why(self, policy: RetentionPolicy) -> str:
        return visible(policy.note)

    @admin.display(description="retain hours", ordering="retain_hours")
    def kept(self, policy: RetentionPolicy) -> str:
        return say_field("retain_hours", policy.retain_hours)

    @admin.display(description="typed by the account", ordering="typed_by")
    def typed(self, policy: RetentionPolicy) -> str:
        return visible(policy.typed_by)

    @admin.display(description="author", ordering="author")
    def written_by(self, policy: RetentionPolicy) -> str:
        return visible(policy.author)


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


@admin.register(Proof)
class ProofAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("at", "run", "kind", "files", "size", "host")
    list_filter = ("level", ("accepted", admin.EmptyFieldListFilter))
    list_select_related = ("run",)
    search_fields = ("run__run_path",)

    @admin.display(description="logical", ordering="bytes")
    def size(self, proof: Proof) -> str:
        return in_units(proof.bytes)


@admin.register(ByteCheck)
class ByteCheckAdmin(ReadOnly):
    """Comparisons of all bytes that people have asked for on runs' pages."""

    place = OF_A_RUN
    list_display = ("created_at", "run", "asked_for_by", "phase", "outcome", "files", "size", "why")
    list_filter = ("phase", "outcome")
    list_select_related = ("run",)
    search_fields = ("run__run_path",)

    @admin.display(description="asked for by", ordering="actor")
    def asked_for_by(self, check: ByteCheck) -> str:
        return visible(check.actor)

    @admin.display(description="logical", ordering="bytes")
    def size(self, check: ByteCheck) -> str:
        return in_units(check.bytes)

    @admin.display(description="reason", ordering="reason")
    def why(self, check: ByteCheck) -> str:
        return sentence(check.reason)


@admin.register(AcceptedBytes)
class AcceptedBytesAdmin(ReadOnly):
    """Bytes that admins have accepted in place of manifests, on runs' pages."""

    place = OF_A_RUN
    list_display = ("at", "run", "accepted_by", "said", "withdrawn_at", "withdrawn_by")
    list_filter = (("withdrawn_at", admin.EmptyFieldListFilter),)
    list_select_related = ("run",)
    search_fields = ("run__run_path",)

    @admin.display(description="accepted by", ordering="actor")
    def accepted_by(self, accepted: AcceptedBytes) -> str:
        return visible(accepted.actor)

    @admin.display(description="reason given", ordering="note")
    def said(self, accepted: AcceptedBytes) -> str:
        return visible(accepted.note)


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    """Holds are laid and released on a run's page, by commands, or by a file in the run."""

    place = OF_A_RUN
    list_display = (
        "created_at",
        "run",
        "source",
        "owned_by",
        "typed",
        "because",
        "until",
        "released_at",
        "released_by",
        "release_typed",
    )
    list_filter = ("source", "owner", ("released_at", admin.EmptyFieldListFilter))
    list_select_related = ("run",)
    search_fields = ("run__run_path", "owner", "reason")

    @admin.display(description="owner", ordering="owner")
    def owned_by(self, hold: Hold) -> str:
        return visible(hold.owner)

    @admin.display(description="typed by the account", ordering="typed_by")
    def typed(self, hold: Hold) -> str:
        return visible(hold.typed_by)

    @admin.display(description="release typed by the account", ordering="released_typed_by")
    def release_typed(self, hold: Hold) -> str:
        return visible(hold.released_typed_by)

    @admin.display(description="reason", ordering="reason")
    def because(self, hold: Hold) -> str:
        return visible(hold.reason)


@admin.register(Likeness)
class LikenessAdmin(ReadOnly):
    """Runs that may be one and the same; on a run's page a person says that they are not."""

    place = OF_A_RUN
    list_display = ("found_at", "run", "other", "by_what", "denied_at", "said_by", "why")
    list_filter = (("denied_at", admin.EmptyFieldListFilter),)
    list_select_related = ("run", "other")
    search_fields = ("run__run_path",)

    @admin.display(description="by what", ordering="evidence")
    def by_what(self, alike: Likeness) -> str:
        return visible(alike.evidence)

    @admin.display(description="denied by", ordering="denied_by")
    def said_by(self, alike: Likeness) -> str:
        return visible(alike.denied_by)

    @admin.display(description="reason given", ordering="note")
    def why(self, alike: Likeness) -> str:
        return visible(alike.note)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    """The ledger, with what the entries that the filters select have freed."""

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


@admin.register(Announcement)
class AnnouncementAdmin(ReadOnly):
    """What people were told before passes took it."""

    list_display = ("at", "root", "first_pass_at", "runs", "size", "mails", "unsent")
    list_filter = (("root", RootFilter), ("mail_problem", admin.EmptyFieldListFilter))
    list_select_related = ("root",)

    @admin.display(description="logical bytes", ordering="bytes")
    def size(self, announcement: Announcement) -> str:
        return exact_bytes(announcement.bytes)

    @admin.display(description="why a mail was not sent", ordering="mail_problem")
    def unsent(self, announcement: Announcement) -> str:
        return visible(announcement.mail_problem)


@admin.register(NasBreaker)
class NasBreakerAdmin(ReadOnly):
    """Which NAS roots nobody asks just now, and why."""

    list_display = ("token", "host", "failures", "open_until", "trouble", "said")

    @admin.display(description="detail")
    def said(self, breaker: NasBreaker) -> str:
        return visible(breaker.detail)

    @admin.display(description="problem", ordering="reason")
    def trouble(self, breaker: NasBreaker) -> str:
        return sentence(breaker.reason)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly):
    list_display = ("cluster", "host", "at")


@admin.register(HostClock)
class HostClockAdmin(ReadOnly):
    """The clocks of hosts; a person who says that one is right does so with the sweeps that it has stopped."""

    list_display = ("host", "seen_at", "doubted_since", "sure_at", "said", "mended_at", "mended_in_words")

    @admin.display(description="why it is in doubt")
    def said(self, clock: HostClock) -> str:
        return visible(clock.detail)

    @admin.display(description="what was mended")
    def mended_in_words(self, clock: HostClock) -> str:
        return visible(clock.mended)


@admin.register(Sweep)
class SweepAdmin(ReadOnly):
    list_display = (
        "started_at",
        "root",
        "kind",
        "outcome",
        "scanned",
        "candidates",
        "cleared",
        "skipped",
        "failed",
        "files",
        "size",
        "seconds",
        "why",
    )
    list_filter = ("kind", "outcome", "root")
    list_select_related = ("root",)
    date_hierarchy = "started_at"

    @admin.display(description="logical", ordering="bytes")
    def size(self, sweep: Sweep) -> str:
        return in_units(sweep.bytes)

    @admin.display(description="reason", ordering="reason")
    def why(self, sweep: Sweep) -> str:
        return sentence(sweep.reason)


@admin.register(SweptRun)
class SweptRunAdmin(ReadOnly):
    """What passes said of runs; a row stands for every pass of its kind from the first to the last."""

    place = OF_A_RUN
    list_display = ("path_shown", "kind", "first", "last", "action", "why", "said", "policy_version")
    list_filter = ("kind", "action", ("root", RootFilter))
    list_select_related = ("run", "first__root", "last__root")
    search_fields = ("run__run_path",)

    @admin.display(description="run")
    def path_shown(self, swept: SweptRun) -> str:
        return visible(swept.run.run_path)

    @admin.display(description="reason", ordering="reason")
    def why(self, swept: SweptRun) -> str:
        return because(swept.reason)

    @admin.display(description="detail")
    def said(self, swept: SweptRun) -> str:
        return visible(swept.detail)


@admin.register(SweepBreaker)
class SweepBreakerAdmin(ReadOnly):
    """What stopped the sweeps; people let them go on from the page of the sweeps, or by `go_on`."""

    list_display = ("opened_at", "root", "kind", "saw_in_words", "closed_at", "gone_on_by", "typed", "said")
    list_filter = ("kind", "root", ("closed_at", admin.EmptyFieldListFilter))
    list_select_related = ("root",)

    @admin.display(description="detail")
    def saw_in_words(self, breaker: SweepBreaker) -> str:
        return visible(breaker.detail)

    @admin.display(description="closed by", ordering="closed_by")
    def gone_on_by(self, breaker: SweepBreaker) -> str:
        return visible(breaker.closed_by)

    @admin.display(description="typed by the account", ordering="typed_by")
    def typed(self, breaker: SweepBreaker) -> str:
        return visible(breaker.typed_by)

    @admin.display(description="note", ordering="note")
    def said(self, breaker: SweepBreaker) -> str:
        return visible(breaker.note)


@admin.register(RootNote)
class RootNoteAdmin(ReadOnly):
    """The first nights of staging roots: when they began, what surprised, and who said that they are over."""

    place = OF_A_ROOT
    list_display = ("at", "root", "event", "policy_version", "run", "said_by", "said")
    list_filter = ("event", ("root", RootFilter))
    list_select_related = ("root", "run")

    @admin.display(description="author", ordering="author")
    def said_by(self, note: RootNote) -> str:
        return visible(note.author)

    @admin.display(description="note")
    def said(self, note: RootNote) -> str:
        return visible(note.note)


@admin.register(Surprise)
class SurpriseAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("at", "path_shown", "policy_version", "why", "said")
    list_filter = ("policy_version", "reason")
    list_select_related = ("run",)
    search_fields = ("run__run_path",)

    @admin.display(description="run")
    def path_shown(self, surprise: Surprise) -> str:
        return visible(surprise.run.run_path)

    @admin.display(description="reason", ordering="reason")
    def why(self, surprise: Surprise) -> str:
        return sentence(surprise.reason)

    @admin.display(description="detail")
    def said(self, surprise: Surprise) -> str:
        return visible(surprise.detail)


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ("since", "kind", "subject_shown", "why", "detail_shown", "root", "seen_at", "ended_at")
    list_filter = ("kind", "root", ("ended_at", admin.EmptyFieldListFilter))
    list_select_related = ("root",)
    search_fields = ("subject", "run__run_path")

    @admin.display(description="subject", ordering="subject")
    def subject_shown(self, alert: Alert) -> str:
        return visible(alert.subject)

    @admin.display(description="reason", ordering="reason")
    def why(self, alert: Alert) -> str:
        return sentence(alert.reason)

    @admin.display(description="detail")
    def detail_shown(self, alert: Alert) -> str:
        return visible(alert.detail)


@admin.register(Orphan)
class OrphanAdmin(ReadOnly):
    """What belongs to no known run; what can be done about it is done from the page of problems."""

    list_display = (
        "path_shown",
        "root",
        "kind",
        "size",
        "files",
        "modified_at",
        "first_seen_at",
        "escalated_at",
        "gone_at",
    )
    list_filter = (
        "kind",
        "root",
        ("gone_at", admin.EmptyFieldListFilter),
        ("escalated_at", admin.EmptyFieldListFilter),
    )
    list_select_related = ("root",)
    search_fields = ("path",)

    @admin.display(description="path", ordering="path")
    def path_shown(self, orphan: Orphan) -> str:
        return visible(orphan.path)

    @admin.display(description="size", ordering="bytes")
    def size(self, orphan: Orphan) -> str:
        return in_units(orphan.bytes)


class AccessForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """A place for a user or a group; instruments are chosen, because a wrong letter would quietly give nothing."""

    class Meta:
        model = Access
        fields = ("user", "group", "root", "equipment")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        known = set(Instrument.objects.order_by().values_list("equipment", flat=True).distinct())
        known |= {self.instance.equipment} - {""}
        root = self.fields["root"]
        root.label, root.help_text = "Staging root", ""
        root.empty_label = "every staging root"  # type: ignore[attr-defined]
        self.fields["equipment"] = forms.ChoiceField(
            label="Instrument",
            choices=[("", "every instrument"), *((name, visible(name)) for name in sorted(known))],
            required=False,
        )


@admin.register(Access)
class AccessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who may use their permissions where. Every change stands in the log of changes."""

    form = AccessForm
    fieldsets = (
        (
            None,
            {
                "fields": ("user", "group", "root", "equipment"),
                "description": "Where somebody may do what the permissions of the user, or of the group, say."
                " Name either a user or a group.",
            },
        ),
    )
    actions = None
    list_display = ("whom", "root_shown", "equipment_shown")
    list_filter = ("group", "root")
    list_select_related = ("user", "group", "root")
    search_fields = ("user__username", "group__name", "equipment")

    @admin.display(description="who")
    def whom(self, place: Access) -> str:
        return f"everybody in {place.group.name}" if place.group else visible(place.user)

    @admin.display(description="staging root", ordering="root")
    def root_shown(self, place: Access) -> str:
        return place.root.name if place.root else "every staging root"

    @admin.display(description="instrument", ordering="equipment")
    def equipment_shown(self, place: Access) -> str:
        return visible(place.equipment) if place.equipment else "every instrument"


@admin.register(Instrument)
class InstrumentAdmin(Placed):
    """Instruments come with their runs; here it is said whether their bench page opens without signing in."""

    place = ("root", "equipment")
    actions = ("give_new_address",)
    list_display = ("equipment_shown", "root", "public", "bench")
    list_filter = (("root", RootFilter), "public")
    list_select_related = ("root",)
    search_fields = ("equipment",)
    fields = ("equipment_shown", "root", "public", "bench")
    readonly_fields = ("equipment_shown", "root", "bench")

    @admin.display(description="instrument", ordering="equipment")
    def equipment_shown(self, instrument: Instrument) -> str:
        return visible(instrument.equipment)

    @admin.display(description="bench page")
    def bench(self, instrument: Instrument) -> SafeString:
        page, card = reverse("bench", args=[instrument.token]), reverse("instrument-card", args=[instrument.pk])
        return format_html('<a href="{}">Open</a> · <a href="{}">Print its QR code</a>', page, card)

    @admin.action(description="Give a new address: printed QR codes end", permissions=["change"])
    def give_new_address(self, request: HttpRequest, chosen: "QuerySet[Instrument]") -> None:
        for instrument in chosen:
            if self.has_change_permission(request, instrument):
                Instrument.objects.filter(pk=instrument.pk).update(token=uuid.uuid4())
                self.log_change(request, instrument, "Gave the bench page a new address.")
                messages.success(request, f"The bench page of {visible(instrument)} has a new address.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        if not isinstance(obj, Instrument):
            return allowed
        return allowed and self.places(request, "change").include(obj.root_id, obj.equipment)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Project)
class ProjectAdmin(ReadOnly):
    list_display = ("code_shown", "title_shown")
    search_fields = ("code", "title")

    @admin.display(description="project", ordering="code")
    def code_shown(self, project: Project) -> str:
        return visible(project.code)

    @admin.display(description="title", ordering="title")
    def title_shown(self, project: Project) -> str:
        return visible(project.title)


@admin.register(DiskUsage)
class DiskUsageAdmin(ReadOnly):
    """How full the disks were."""

    place = OF_A_ROOT
    list_display = ("at", "root", "total", "free")
    list_filter = (("root", RootFilter),)
    list_select_related = ("root",)
    ordering = ("-at",)

    @admin.display(description="size of the disk", ordering="total_bytes")
    def total(self, usage: DiskUsage) -> str:
        return in_units(usage.total_bytes)

    @admin.display(description="free", ordering="free_bytes")
    def free(self, usage: DiskUsage) -> str:
        return in_units(usage.free_bytes)


@admin.register(ClearBatch)
class ClearBatchAdmin(ReadOnly):
    """Clears that were asked for together; what became of each stands in its attempt."""

    list_display = ("created_at", "asked_for_by", "said", "paused_at", "stopped_at")
    list_filter = ("actor",)
    date_hierarchy = "created_at"

    @admin.display(description="asked for by", ordering="actor")
    def asked_for_by(self, batch: ClearBatch) -> str:
        return visible(batch.actor)

    @admin.display(description="reason given", ordering="note")
    def said(self, batch: ClearBatch) -> str:
        return visible(batch.note)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnly):
    """Who changed what in these pages, and when: people, groups, access, instruments, staging roots."""

    list_display = ("action_time", "user", "content_type", "what", "__str__")
    list_filter = ("action_flag", "content_type", "user")
    list_select_related = ("user", "content_type")
    date_hierarchy = "action_time"

    @admin.display(description="object")
    def what(self, entry: LogEntry) -> str:
        return visible(entry.object_repr)


admin.site.unregister(User)


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    """Django's own page of users, with an end for sessions that were left open somewhere."""

    actions = ("sign_out_everywhere",)

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, users: QuerySet[User]) -> None:
        ended = sum(sessions.end(user, by=request.user.get_username()) for user in users)
        self.message_user(request, f"{ended} session{'' if ended == 1 else 's'} ha{'s' if ended == 1 else 've'} ended.")


# The queue's own pages would let anybody who may add a schedule run any function of any module.
for _model in (Schedule, OrmQ, Success, Failure):
    admin.site.unregister(_model)


@admin.register(Schedule)
class ScheduleAdmin(ReadOnly):
    """What runs when; `migrate` brings it back to what the program needs."""

    list_display = ("name", "func", "minutes", "cluster", "next_run")


@admin.register(OrmQ)
class QueuedTaskAdmin(ReadOnly):
    list_display = ("key", "name", "lock")
    fields = ("key", "name", "func", "args", "lock")


@admin.register(Success)
@admin.register(Failure)
class TaskAdmin(ReadOnly):
    """What the queue did lately; it forgets, and the ledger does not."""

    list_display = ("name", "func", "cluster", "started", "stopped")
    fields = ("name", "func", "args", "cluster", "started", "stopped", "success", "result")
