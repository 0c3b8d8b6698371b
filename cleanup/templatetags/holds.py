"""Template filters of `cleanup.text.holds`."""

from django import template

from cleanup.text import holds

register = template.Library()

register.filter("byte_days", holds.byte_days)
register.filter("days", holds.days)
