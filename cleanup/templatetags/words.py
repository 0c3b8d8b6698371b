"""Template filters of `cleanup.text.values`."""

from django import template

from cleanup.models import fold_name
from cleanup.text import people, values

register = template.Library()

register.filter("twin_place", values.twin_place)
register.filter("bytes", values.in_units)
register.filter("exact_bytes", values.exact_bytes)
register.filter("given_back", values.given_back)
register.filter("fuller", values.fuller)
register.filter("flag_sentences", values.flag_sentences)
register.filter("mount_flags", values.mount_flags)
register.filter("count", values.count)
register.filter("files", values.files)
register.filter("runs", values.runs)
register.filter("duration", values.duration)
register.filter("ago", values.ago)
register.filter("instant", values.instant)
register.filter("machine", values.machine)
register.filter("visible", values.visible)
register.filter("sentence", values.sentence)
register.filter("advice", values.advice)
register.filter("first_person", people.first_person)
register.filter("all_people", people.all_people)
register.filter("folded_name", fold_name)
