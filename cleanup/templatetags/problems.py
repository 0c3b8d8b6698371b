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
    number = problems.count(user, now, hindrances=context.get("hindrances"))
    return f"{problems.MOST - 1:,}+" if number >= problems.MOST else str(number or "")
