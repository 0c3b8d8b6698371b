"""Where in the product a page stands, for the navigation that frames it."""

from django import template
from django.contrib.auth.models import User
from django.http import HttpRequest

from cleanup.lab import permissions

register = template.Library()

# The place of the navigation that the first part of an address belongs to.
PLACES = {
    "": "overview",
    "runs": "runs",
    "selection": "runs",
    "clear": "runs",
    "batches": "runs",
    "sweeps": "sweeps",
    "breakers": "sweeps",
    "problems": "problems",
    "holds": "holds",
    "policies": "policies",
    "instruments": "instruments",
    "bench": "instruments",
}


@register.simple_tag
def current(request: HttpRequest | None, place: str, address: str) -> str:
    """The value of `aria-current` for the link to a place: `page` there, `true` on a page below it, else empty."""
    if request is None or PLACES.get(request.path.split("/")[1]) != place:
        return ""
    return "page" if request.path == address else "true"


@register.simple_tag
def has_no_place(user: User) -> bool:
    """Whether a user who may look at runs has no place where."""
    return permissions.places(user, permissions.VIEW).nowhere
