"""The navigation around every page."""

from django import template
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from cleanup.lab.people import permissions
from cleanup.text import help_places

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
    "admin": "admin",
    "roots": "roots",
    "people": "people",
    "setup": "overview",
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


@register.simple_tag
def help_address(request: HttpRequest | None) -> str:
    """Where the guide explains this page; its beginning for a page that it does not know, as of an error."""
    match = request.resolver_match if request is not None else None
    place = help_places.heading(match.route) if match is not None else None
    if place is None:
        return reverse("guide")
    page, _sign, heading = place.rpartition("#")
    return f"{reverse('guide-page', args=[page]) if page else reverse('guide')}#{heading}"


@register.simple_tag
def zone_name() -> str:
    """The zone of all instants on the page, such as `Europe/Berlin`."""
    return timezone.get_current_timezone_name()
