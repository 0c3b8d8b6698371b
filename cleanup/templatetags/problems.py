"""The number of open problems."""

from typing import Any

from django import template
from django.contrib.auth.models import User
from django.utils import timezone

from cleanup.monitoring import problems

register = template.Library()


@register.simple_tag(takes_context=True)
def open_problems(context: dict[str, Any]) -> str:
    user: User = context["user"]
    now = context.get("now") or timezone.now()
    counted: int | None = context.get("open_problems")  # by a page that lists them all
    number = problems.count(user, now, hindrances=context.get("hindrances")) if counted is None else counted
    return f"{problems.MOST - 1:,}+" if number >= problems.MOST else str(number or "")
