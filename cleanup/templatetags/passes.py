"""Template filters of `cleanup.text.sweeps`."""

from django import template

from cleanup.text import sweeps

register = template.Library()

register.filter("lets_go", sweeps.lets_go)
register.filter("scope_name", sweeps.scope_name)
register.filter("action", sweeps.action)
register.filter("called", sweeps.called)
register.filter("came_to", sweeps.came_to)
register.filter("tone", sweeps.tone)
register.filter("outcome_tone", sweeps.outcome_tone)
register.filter("because", sweeps.because)
register.filter("pressed", sweeps.pressed)
register.filter("given_back_by_pass", sweeps.given_back_by_pass)
register.filter("shut", sweeps.shut)
register.filter("parsed", sweeps.parsed)
register.filter("deciders", sweeps.deciders)
register.filter("decided", sweeps.decided)
