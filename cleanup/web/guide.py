"""The guide, as `docs/make_guide.py` has made it from the documents."""

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cleanup.web.requests import SignedIn

# The pages by their names in addresses, with what they are called.
TITLES = {
    "guide": "Guide",
    "reasons": "Every reason",
    "words": "Words",
    "admin": "For the admin",
    "receipts": "Receipts",
    "mounts": "NAS mounts",
    "privacy": "What is kept of people",
}


@require_safe
def guide(request: SignedIn, page: str = "guide") -> HttpResponse:
    """One page of the guide, for every person who is signed in."""
    if page not in TITLES:
        raise Http404
    context = {"page": page, "title": TITLES[page], "titles": TITLES, "body": f"cleanup/guide/pages/{page}.html"}
    return render(request, "cleanup/guide/guide.html", context)
