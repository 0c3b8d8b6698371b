"""Runs, and what is kept of them."""

from django.contrib import admin

from cleanup.admin.base import OF_A_RUN, InstrumentFilter, ProjectFilter, ReadOnly, RootFilter
from cleanup.models import (
    AcceptedBytes,
    ByteCheck,
    Hold,
    IngestEvent,
    Likeness,
    Orphan,
    Project,
    Proof,
    Run,
)
from cleanup.text.values import in_units, sentence, visible


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
    ordering = ("-pk",)

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
    ordering = ("-pk",)
    search_fields = ("run__run_path",)


@admin.register(Proof)
class ProofAdmin(ReadOnly):
    place = OF_A_RUN
    list_display = ("at", "run", "kind", "files", "size", "host")
    list_filter = ("level", ("accepted", admin.EmptyFieldListFilter))
    ordering = ("-pk",)
    list_select_related = ("run",)
    search_fields = ("run__run_path",)

    @admin.display(description="logical", ordering="bytes")
    def size(self, proof: Proof) -> str:
        return in_units(proof.bytes)


@admin.register(ByteCheck)
class ByteCheckAdmin(ReadOnly):
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


@admin.register(Orphan)
class OrphanAdmin(ReadOnly):
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
