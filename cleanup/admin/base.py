"""What the tables of the admin share."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_permission_codename
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

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
# The most rows that a table lists and counts.
MOST_LISTED = 10_000
# The most names that a filter offers.
MOST_NAMED = 200


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


class ActorFilter(admin.SimpleListFilter):
    """Names of accounts: those in the rows would take a look at every row. Others can be searched."""

    title = parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        names = User.objects.order_by("username").values_list("username", flat=True)[:MOST_NAMED]
        return [(name, visible(name)) for name in names]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(actor=self.value()) if self.value() else queryset


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # Django itself has no such brackets
    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin gives no list
        return rows.order_by()[:MOST_LISTED].count()


class OrderedChangeList(ChangeList):
    """Sorts by the columns that are offered, also where an address asks for another one."""

    @property
    def is_capped(self) -> bool:
        return self.result_count >= MOST_LISTED

    def get_ordering_field(self, field_name: Any) -> Any:  # noqa: ANN401
        offered = self.model_admin.sortable_by
        if offered is not None and field_name not in offered:
            return None
        return super().get_ordering_field(field_name)


class ReadOnly(Placed):
    """No adding, changing or deleting, not even as an action."""

    actions = None
    list_per_page = 50
    show_full_result_count = False
    paginator = CappedPaginator

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ANN401
        return OrderedChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
