"""Policies and the sweeps that act by them."""

from django.contrib import admin

from cleanup.admin.base import OF_A_ROOT, OF_A_RUN, ReadOnly, RootFilter
from cleanup.models import (
    Announcement,
    RetentionPolicy,
    RootNote,
    Surprise,
    Sweep,
    SweepBreaker,
    SweptRun,
)
from cleanup.rules.policies.sentences import say_field
from cleanup.text.sweeps import because
from cleanup.text.values import exact_bytes, in_units, sentence, visible


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


@admin.register(Announcement)
class AnnouncementAdmin(ReadOnly):
    list_display = ("at", "root", "first_pass_at", "runs", "size", "mails", "unsent")
    list_filter = (("root", RootFilter), ("mail_problem", admin.EmptyFieldListFilter))
    list_select_related = ("root",)

    @admin.display(description="logical bytes", ordering="bytes")
    def size(self, announcement: Announcement) -> str:
        return exact_bytes(announcement.bytes)

    @admin.display(description="why a mail was not sent", ordering="mail_problem")
    def unsent(self, announcement: Announcement) -> str:
        return visible(announcement.mail_problem)


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
    """A row stands for all sweeps of its kind from first to last."""

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
