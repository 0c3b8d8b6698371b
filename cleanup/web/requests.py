"""The requests of our views."""

from django.contrib.auth.models import User
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class SignedIn(HttpRequest):
    """A request of a signed-in user, with htmx."""

    user: User
    htmx: HtmxDetails
