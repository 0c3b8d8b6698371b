"""What the tables of the admin share."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest

from cleanup.lab.people import permissions
from cleanup.lab.people.permissions import Places
from cleanup.models import (
    Project,
)
from cleanup.text.values import visible

# The columns by which a row belongs to a staging root and an instrument.
Place = tuple[str, str]
OF_A_RUN: Place = ("run__root", "run__equipment")
OF_A_ROOT: Place = ("root", "")


class Placed(admin.ModelAdmin):  # type: ignore[type-arg]  # Django itself has no such brackets
    """A table with the rows of the user's places, or without `place` with all."""

    place: ClassVar[Place | None] = None

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found = super().get_queryset(request)
        places = self.places(request, "view")
        if self.place is None:
            return found if places.everywhere else found.none()
        root, equipment = self.place
        return found.filter(places.q(root, equipment))

    def places(self, request: HttpRequest, action: str) -> Places:
        return permissions.places(request.user, f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}")


class RootFilter(admin.RelatedFieldListFilter):
    def field_choices(
        self,
        field: "Field[Any, Any]",
        request: HttpRequest,
        model_admin: "admin.ModelAdmin[Any]",
    ) -> list[tuple[str, Any]]:
        return [(str(root.pk), root.name) for root in permissions.roots(request.user)]


class InstrumentFilter(admin.SimpleListFilter):
    """Without a query over a million runs."""

    title = parameter_name = "equipment"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        found = permissions.instruments(request.user).order_by("equipment").values_list("equipment", flat=True)
        return [(name, visible(name)) for name in found.distinct()]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(equipment=self.value()) if self.value() else queryset


class ProjectFilter(admin.SimpleListFilter):
    """All projects: only the runs could tell which lie in the user's places."""

    title = parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        if not permissions.places(request.user, permissions.VIEW).everywhere:
            return []
        return [(code, visible(code)) for code in Project.objects.values_list("code", flat=True)]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(project=self.value()) if self.value() else queryset


class ReadOnly(Placed):
    """No adding, changing or deleting, not even as an action."""

    actions = None
    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
