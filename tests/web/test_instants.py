"""How pages say instants: to the minute, exactly where the mouse rests on them, and the zone once."""

import re
from collections.abc import Iterator

import pytest

from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


def inexact(text: str) -> Iterator[str]:
    """The instants of a template that no page shows exactly: bare ones, and times without a title."""
    without_comparisons = re.sub(r"\{\{.*?\}\}", lambda found: found[0].replace(">", ""), text)
    for time in re.finditer(r"<time\b[^>]*>", without_comparisons):
        if "title=" not in time[0] or "exact_instant" not in time[0]:
            yield time[0]
    for bare in re.finditer(r"\|instant\b", text):
        before = text[: bare.start()]
        within_a_tag = before.rfind("<") > before.rfind(">")
        if not within_a_tag and "{% block title %}" not in before.rpartition("\n")[2]:
            yield before.rpartition("{{")[2] + bare[0]


def test_every_instant_of_a_page_is_exact_on_hover():
    """Say `{{ at|dated }}`, `{{ end|until:now }}`, or include parts/_when.html."""
    paths = (CHECKOUT / "templates").rglob("*.html")
    found = {path.name: list(inexact(path.read_text())) for path in paths}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("text", ["<p>{{ at|instant }}</p>", '<time datetime="{{ at|machine }}">{{ x }}</time>'])
def test_an_inexact_one_is_found(text):
    assert list(inexact(text))
