"""The type of requests in our views."""

from django.contrib.auth.models import User
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class SignedIn(HttpRequest):
    """A request after the middleware: a user is signed in, and htmx is known."""

    user: User
    htmx: HtmxDetails
