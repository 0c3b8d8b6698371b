"""The guide in the program, and the "?" of each page that leads to its heading."""

import importlib.util
import re
from types import ModuleType

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.urls import reverse

from cleanup.text import help_places
from cleanup.web import guide, urls
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine

# Links outside of this program lead here: from mails, problems and printed pages.
LASTING = {
    *("first-morning", "people", "roots", "make-room", "problems", "alarm", "whose-run", "selections", "the-past"),
    *("keep-a-run-for-longer", "at-the-bench", "your-account", "who-may-do-what", "what-goes-by-itself"),
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_guide", CHECKOUT / "docs/make_guide.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: str) -> set[str]:
    return set(re.findall(r' id="([^"]+)"', (CHECKOUT / f"templates/cleanup/guide/pages/{page}.html").read_text()))


def test_the_pages_are_what_the_documents_say(maker):
    made = dict(maker.pages())
    assert {path.stem for path in made} == set(guide.TITLES)
    assert {path: path.read_text() for path in made} == made, "run docs/make_guide.py"
    assert set(maker.TEMPLATES.iterdir()) == set(made)


def test_every_page_of_the_program_has_its_heading():
    routes = {str(pattern.pattern): help_places.heading(str(pattern.pattern)) for pattern in urls.urlpatterns}
    assert [route for route, heading in routes.items() if heading is None] == []
    assert help_places.heading("nowhere/") is None


def test_every_heading_is_there():
    for place in help_places.HEADINGS.values():
        page, _sign, heading = place.rpartition("#")
        assert heading in anchors(page or "guide"), place
    assert anchors("guide") >= LASTING


def test_no_link_within_the_guide_is_broken(people, maker):
    for page in guide.TITLES:
        shown = people.viewer.get(reverse("guide-page", args=[page])).content.decode()
        for address, anchor in re.findall(r'href="(/guide/[^"#]*)?#([^"]+)"', shown.partition('<main id="main"')[2]):
            other = address.removeprefix("/guide/").strip("/") or "guide" if address else page
            assert anchor in anchors(other), (page, address, anchor)
        for picture in re.findall(r'src="/static/(cleanup/guide/[^"]+)"', shown):
            assert (CHECKOUT / "static" / picture).exists()


@pytest.mark.parametrize(
    "source, words",
    [
        (
            "<script>alert(1)</script> & {{ user }} {% now %}",
            "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#123;&#123;",
        ),
        ("`{% csrf_token %}` <b>", "<code>&#123;% csrf_token %&#125;</code> &lt;b&gt;"),
        ('![a" onerror="x](../static/cleanup/guide/bench.png)', "a&quot; onerror=&quot;x"),
    ],
)
def test_a_document_puts_nothing_but_words_into_a_page(maker, source, words):
    assert words in "".join(maker.render(source).body)


@pytest.mark.parametrize(
    "source",
    [
        "[out](https://example.org/)",
        "[off](javascript:alert(1))",
        "[none](nowhere.md)",
        "- one\n  - two",
        "# One\n\n# Two",
        "## One\n\n## One",
        "#### Deep",
        "| a | b |\n|---|---|\n| c |",
    ],
)
def test_what_the_maker_does_not_understand_it_refuses(maker, source):
    with pytest.raises(ValueError, match=r"\w"):
        maker.render(source)


def test_a_page_leads_to_its_heading(people, runs):
    run = next(iter(runs.values()))
    for address, place in {
        "/": "/guide/#free-the-disk-in-under-a-minute",
        f"/runs/{run.pk}/hold/": "/guide/#keep-a-run-for-longer",
        "/policies/": "/guide/admin/#policies",
        "/nothing/": "/guide/",
    }.items():
        page = people.operator.get(address).content.decode()
        assert f'<a class="help" href="{place}" aria-label="Help for this page"' in page, address


def test_only_people_who_are_signed_in_read_it(people):
    assert people.stranger.get("/guide/").status_code == 200
    assert people.nobody.get("/guide/").status_code == 302
    assert people.viewer.get("/guide/nowhere/").status_code == 404
    assert people.viewer.get("/guide/").content.count(b"<h1>") == 1


def test_a_page_names_the_zone_of_its_instants_once(people, runs):
    page = people.operator.get("/runs/").content.decode()
    assert page.count("All times are in the time zone ") == 1
    assert f"All times are in the time zone {settings.TIME_ZONE}." in page
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert "All times" not in render_to_string("404.html", {}, request)
