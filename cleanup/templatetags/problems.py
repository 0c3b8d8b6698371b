"""How many problems are open, for the navigation."""

from django import template

from cleanup.models import Alert, SweepBreaker
from cleanup.orphans import listed

register = template.Library()


@register.simple_tag
def open_problems() -> int:
    """Open alerts and breakers, and listed orphans, in one query."""
    alerts = Alert.objects.filter(ended_at=None).order_by().values("pk")
    breakers = SweepBreaker.objects.filter(closed_at=None).order_by().values("pk")
    return alerts.union(breakers, listed().order_by().values("pk"), all=True).count()
