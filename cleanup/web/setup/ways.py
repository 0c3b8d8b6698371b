"""Where the guided page leads: the pages of staging roots, or what does the same until they are there."""

from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse

# page: (Django's admin page that does it for now, the command that does it)
_WITHOUT_PAGE = {
    "add-root": ("", "manage.py add_staging_root NAME PATH --nas-root PATH"),
    "add-nas-root": ("", "manage.py add_staging_root NAME PATH --nas-root PATH"),
    "import-wizard-config": ("", "manage.py import_wizard_config --apply"),
    "root-list": ("admin:cleanup_stagingroot_changelist", ""),
}


@dataclass(frozen=True)
class StepWay:
    """An address to press, or a command to type."""

    address: str = ""
    command: str = ""


NO_WAY = StepWay()


def way_to(page: str) -> StepWay:
    """The way to a page of staging roots."""
    try:
        return StepWay(address=reverse(page))
    except NoReverseMatch:
        instead, command = _WITHOUT_PAGE[page]
        return StepWay(address=reverse(instead) if instead else "", command=command)
