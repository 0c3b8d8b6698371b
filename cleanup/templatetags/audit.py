"""Template filters of `cleanup.text.audit`."""

from django import template

from cleanup.text import audit

register = template.Library()

register.filter("within", audit.within)
