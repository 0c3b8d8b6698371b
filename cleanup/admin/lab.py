"""Staging roots, instruments, hosts and users."""

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cleanup.admin.base import OF_A_ROOT, Placed, ReadOnly, RootFilter
from cleanup.admin.forms import StagingRootForm
from cleanup.lab.nas import shared_twins
from cleanup.lab.people import sessions
from cleanup.models import (
    Access,
    AccountName,
    Alert,
    DiskUsage,
    Heartbeat,
    HostClock,
    Instrument,
    NasBreaker,
    ProvingLease,
    StagingRoot,
    fold_name,
)
from cleanup.text.values import in_units, sentence, visible


@admin.register(StagingRoot)
class StagingRootAdmin(Placed):
    """Only `add_staging_root` adds roots: it lays the tokens."""

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
        "prove_bytes_per_second",
        "prove_from",
        "prove_until",
        "alarm_percent",
        "alarm_hours",
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
        shared_twins.note_places(obj)

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


@admin.register(NasBreaker)
class NasBreakerAdmin(ReadOnly):
    list_display = ("token", "host", "failures", "open_until", "trouble", "said")

    @admin.display(description="detail")
    def said(self, breaker: NasBreaker) -> str:
        return visible(breaker.detail)

    @admin.display(description="problem", ordering="reason")
    def trouble(self, breaker: NasBreaker) -> str:
        return sentence(breaker.reason)


@admin.register(ProvingLease)
class ProvingLeaseAdmin(ReadOnly):
    list_display = ("nas", "host", "busy", "until", "failures", "again_after", "trouble", "said")

    @admin.display(description="proofs are being made")
    def busy(self, lease: ProvingLease) -> str:
        return "yes" if lease.holder else "not now"

    @admin.display(description="detail")
    def said(self, lease: ProvingLease) -> str:
        return visible(lease.detail)

    @admin.display(description="problem", ordering="reason")
    def trouble(self, lease: ProvingLease) -> str:
        return sentence(lease.reason)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly):
    list_display = ("cluster", "host", "at")


@admin.register(HostClock)
class HostClockAdmin(ReadOnly):
    list_display = ("host", "seen_at", "doubted_since", "sure_at", "said", "mended_at", "mended_in_words")

    @admin.display(description="why it is in doubt")
    def said(self, clock: HostClock) -> str:
        return visible(clock.detail)

    @admin.display(description="what was mended")
    def mended_in_words(self, clock: HostClock) -> str:
        return visible(clock.mended)


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


class AccessForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """Instruments are chosen: a misspelled one would give nothing."""

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
    form = AccessForm
    fieldsets = (
        (
            None,
            {
                "fields": ("user", "group", "root", "equipment"),
                "description": "Where the user, or the group, may do what its permissions say."
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
        return f"all of {place.group.name}" if place.group else visible(place.user)

    @admin.display(description="staging root", ordering="root")
    def root_shown(self, place: Access) -> str:
        return place.root.name if place.root else "every staging root"

    @admin.display(description="instrument", ordering="equipment")
    def equipment_shown(self, place: Access) -> str:
        return visible(place.equipment) if place.equipment else "every instrument"


@admin.register(Instrument)
class InstrumentAdmin(Placed):
    place = ("root", "equipment")
    actions = ("give_new_address",)
    list_display = ("equipment_shown", "root", "public", "notice", "bench")
    list_filter = (("root", RootFilter), "public", "notice")
    list_select_related = ("root",)
    search_fields = ("equipment",)
    fields = ("equipment_shown", "root", "public", "notice", "bench")
    readonly_fields = ("equipment_shown", "root", "bench")

    @admin.display(description="instrument", ordering="equipment")
    def equipment_shown(self, instrument: Instrument) -> str:
        return visible(instrument.equipment)

    @admin.display(description="pages")
    def bench(self, instrument: Instrument) -> SafeString:
        page, card = reverse("bench", args=[instrument.token]), reverse("instrument-card", args=[instrument.pk])
        return format_html(
            '<a href="{}">Bench page</a> · <a href="{}">Print its QR code</a> · <a href="{}">Notice</a>',
            page,
            card,
            reverse("notice", args=[instrument.token]),
        )

    @admin.action(description="Give new addresses: printed QR codes end", permissions=["change"])
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


@admin.register(DiskUsage)
class DiskUsageAdmin(ReadOnly):
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


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnly):
    list_display = ("action_time", "user", "content_type", "what", "__str__")
    list_filter = ("action_flag", "content_type", "user")
    list_select_related = ("user", "content_type")
    date_hierarchy = "action_time"

    @admin.display(description="object")
    def what(self, entry: LogEntry) -> str:
        return visible(entry.object_repr)


admin.site.unregister(User)


class RecordNamesFormSet(BaseInlineFormSet):  # type: ignore[type-arg]
    def clean(self) -> None:
        super().clean()
        left = [form.cleaned_data for form in self.forms if form.is_valid() and form.cleaned_data.get("name")]
        folded = [fold_name(each["name"]) for each in left if not each.get("DELETE")]
        if len(set(folded)) < len(folded):
            raise ValidationError("A name stands here twice: upper and lower case are the same.")


class RecordNamesInline(admin.TabularInline):  # type: ignore[type-arg]
    model = AccountName
    formset = RecordNamesFormSet
    fields = ("name",)
    extra = 1


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    inlines = (RecordNamesInline,)
    actions = ("sign_out_everywhere",)

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, users: QuerySet[User]) -> None:
        ended = sum(sessions.end(user, by=request.user.get_username()) for user in users)
        self.message_user(request, f"{ended} session{'' if ended == 1 else 's'} ha{'s' if ended == 1 else 've'} ended.")
