"""The navigation around every page."""

from django import template
from django.contrib.auth.models import User
from django.http import HttpRequest

from cleanup.lab.people import permissions

register = template.Library()

# The place in the navigation for the first part of an address.
PLACES = {
    "": "overview",
    "runs": "runs",
    "selection": "runs",
    "clear": "runs",
    "batches": "runs",
    "room": "runs",
    "sweeps": "sweeps",
    "breakers": "sweeps",
    "problems": "problems",
    "holds": "holds",
    "policies": "policies",
    "instruments": "instruments",
    "bench": "instruments",
    "audit": "freed",
}


@register.simple_tag
def current(request: HttpRequest | None, place: str, address: str) -> str:
    """`page` at the place, `true` on a page below it, else empty."""
    if request is None or PLACES.get(request.path.split("/")[1]) != place:
        return ""
    return "page" if request.path == address else "true"


@register.simple_tag
def has_no_place(user: User) -> bool:
    return permissions.places(user, permissions.VIEW).nowhere
