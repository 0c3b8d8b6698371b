"""What an admin may change of a registered root without a look at its disk."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from cleanup.lab.nas import shared_twins
from cleanup.lab.roots import first_nights, root_checks
from cleanup.lab.roots.root_checks import RegistrationError
from cleanup.models import StagingRoot
from cleanup.storage.twin_paths import NAMED, LayoutError, parse_layout

# The settings, by their words in the notes of a root.
SETTINGS = {
    "name": "name",
    "nas_layout": "layout of the NAS",
    "allow_same_filesystem": "NAS on the same filesystem accepted",
    "allow_union_nas": "union mount accepted as the NAS",
    "nas_writes_through": "NAS mount said to write through",
    "prove_bytes_per_second": "bytes a second for proofs",
    "prove_from": "proofs from",
    "prove_until": "proofs until",
}


def change(root: StagingRoot, values: dict[str, Any], *, author: str, now: datetime) -> list[str]:
    """Write new values of `SETTINGS`; returns what has changed, in words. Raises RegistrationError."""
    with transaction.atomic():
        row = StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        if not changed:
            return []
        if row.retired_at is not None:
            raise RegistrationError(f"{row.name} is retired: take it up again first.")
        told = [f"{SETTINGS[name]}: {_said(getattr(row, name))} → {_said(value)}" for name, value in changed.items()]
        for name, value in changed.items():
            setattr(row, name, value)
        _expect_sound(row, changed)
        row.save(update_fields=list(changed))
        first_nights.changed(row, now, author=author, note="; ".join(told))
        if "nas_layout" in changed:
            shared_twins.note_places(row)
            first_nights.came(row, now, note="its layout is another one", author=author)
    return told


def _expect_sound(row: StagingRoot, changed: dict[str, Any]) -> None:
    root_checks.refuse_name(row.name)
    if (row.prove_from is None) != (row.prove_until is None):
        raise RegistrationError("Give both hours between which proofs are made, or none.")
    try:
        row.nas_layout = parse_layout(row.nas_layout)
        row.full_clean(exclude=["token", "nas_token"])
    except LayoutError as error:
        raise RegistrationError(str(error)) from None
    except ValidationError as error:
        raise RegistrationError(" ".join(error.messages)) from None
    if "nas_layout" not in changed or row.nas_layout in NAMED:
        return
    for one, other in shared_twins.collisions(row, row.nas_layout)[:1]:
        raise RegistrationError(f"Under this layout the runs {one} and {other} would have one copy on the NAS.")


def _said(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)
