"""Template filters of `cleanup.text.values`, and one of the demo."""

from django import template

from cleanup.lab.roots import demo_root
from cleanup.text import values

register = template.Library()

register.filter("twin_place", values.twin_place)
register.filter("bytes", values.in_units)
register.filter("exact_bytes", values.exact_bytes)
register.filter("given_back", values.given_back)
register.filter("fuller", values.fuller)
register.filter("flag_sentences", values.flag_sentences)
register.filter("mount_flags", values.mount_flags)
register.filter("is_demo", demo_root.is_demo)
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
