"""Template filters of `cleanup.text.values`, the names of the checks and of people, and one of the demo."""

from collections.abc import Mapping
from typing import Any

from django import template

from cleanup.lab.roots import demo_root
from cleanup.models import fold_name
from cleanup.text import check_names, people, short_paths, values

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
register.filter("exact_instant", values.exact_instant)
register.filter("dated", values.dated)
register.filter("until", values.until)
register.filter("said", values.said)
register.filter("machine", values.machine)
register.filter("visible", values.visible)
register.filter("sentence", values.sentence)
register.filter("advice", values.advice)
register.filter("first_person", people.first_person)
register.filter("all_people", people.all_people)
register.filter("folded_name", fold_name)
register.filter("check_name", check_names.check_name)
register.filter("short_path", short_paths.short_path)


@register.filter
def result(line: Mapping[str, Any]) -> str:
    """The result of a check as it is stored, in words."""
    return check_names.result_of(line["gate"], line["verdict"], line["reason"])
