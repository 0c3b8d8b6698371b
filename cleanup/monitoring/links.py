"""Links in mails, and links to pages that several places name."""

from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from cleanup.models import StagingRoot


def in_mail(path: str) -> str:
    """The whole address of a page by `EXLAB_BASE_URL`; without that the path alone."""
    return f"{settings.EXLAB_BASE_URL}{path}"


def make_room(root: StagingRoot) -> str:
    """The path of the page that shows what may go from a staging root, and asks before anything does."""
    return f"{reverse('make-room')}?{urlencode({'root': root.pk})}"


def guide(anchor: str) -> str:
    """The path of the guide at one of its headings."""
    return f"{reverse('guide')}#{anchor}"
