"""The requests that our views get."""

from django.contrib.auth.models import User
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class SignedIn(HttpRequest):
    """A request that has passed the middleware: a user is signed in, and htmx is known."""

    user: User
    htmx: HtmxDetails
