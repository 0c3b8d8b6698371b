"""How many problems are open, for the navigation."""

from django import template

from cleanup import watching
from cleanup.models import Alert, StagingRoot, SweepBreaker
from cleanup.orphans import listed

register = template.Library()


@register.simple_tag
def open_problems() -> int:
    """Open alerts and breakers, roots that are not there, and listed orphans, each once and in one query."""
    told_apart = watching.about_breakers() | watching.about_roots()
    alerts = Alert.objects.filter(ended_at=None).exclude(told_apart).order_by().values("pk")
    roots = StagingRoot.objects.exclude(problem="").order_by().values("pk")
    breakers = SweepBreaker.objects.filter(closed_at=None).order_by().values("pk")
    return alerts.union(breakers, roots, listed().order_by().values("pk"), all=True).count()
