"""What empty pages say of disks that nobody has looked at yet."""

from collections.abc import Sequence
from typing import Any

from django import template
from django.utils import timezone

from cleanup.models import StagingRoot
from cleanup.text import first_looks
from cleanup.text.first_looks import Awaited

register = template.Library()

register.filter("first_look", first_looks.say_first_look)


@register.simple_tag(takes_context=True)
def awaited(context: dict[str, Any], roots: Sequence[StagingRoot] | None = None) -> Awaited:
    """Ask only where a page is empty: it costs a question, unless the page gives its roots."""
    return first_looks.awaited(context["user"], context.get("now") or timezone.now(), roots)
