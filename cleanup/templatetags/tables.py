"""The tables of the admin, and the pages that show the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

register = template.Library()

# The page on which people see and do what a table holds; tables that are not named here have none.
PAGES = {
    "run": "run-list",
    "clearbatch": "batch-list",
    "clearattempt": "batch-list",
    "hold": "hold-list",
    "retentionpolicy": "policy-list",
    "sweep": "sweep-list",
    "sweptrun": "sweep-list",
    "sweepbreaker": "sweep-list",
    "orphan": "problem-list",
    "alert": "problem-list",
    "stagingroot": "root-list",
    "access": "people",
    "user": "people",
}


@dataclass(frozen=True)
class AdminTable:
    """One table; `page` is the address of the page that shows the same, empty if there is none."""

    name: str
    address: str
    add: str
    page: str


@dataclass(frozen=True)
class AdminTables:
    here: tuple[AdminTable, ...]
    elsewhere: tuple[AdminTable, ...]


@register.simple_tag
def admin_tables(app_list: Iterable[Mapping[str, Any]]) -> AdminTables:
    """The tables that a user may open, those without a page first."""
    tables = sorted((_table(model) for app in app_list for model in app["models"]), key=lambda table: table.name)
    return AdminTables(
        here=tuple(table for table in tables if not table.page),
        elsewhere=tuple(table for table in tables if table.page),
    )


def _table(model: Mapping[str, Any]) -> AdminTable:
    page = PAGES.get(model["object_name"].lower(), "")
    return AdminTable(
        name=str(model["name"]),
        address=model.get("admin_url") or "",
        add=model.get("add_url") or "",
        page=reverse(page) if page else "",
    )
