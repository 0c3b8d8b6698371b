"""What a page weighs, sent by the real server."""

import re
from pathlib import Path

import django_htmx
import pytest
from django.core.management import call_command
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

KB = 1000
GZIP = {"headers": {"accept-encoding": "gzip, deflate"}}


@pytest.fixture
def served(settings, tmp_path) -> None:
    """Static files collected, compressed and named by content, as `up` does; without the admin's."""
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [settings.BASE_DIR / "static", Path(django_htmx.__file__).parent / "static"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
    call_command("collectstatic", interactive=False, verbosity=0)


def body(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def assets_of(client: Client, page: str) -> dict[str, int]:
    """Everything that a page asks for, with its sent size; browsers keep each for good."""
    page = re.sub(r"(?s)<a .*?</a>", "", page)
    sizes = {}
    for address in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page)):
        answer = client.get(address, **GZIP)
        assert answer.status_code == 200
        assert "immutable" in answer["cache-control"], address
        sizes[address] = len(body(answer))
    return sizes


def test_the_overview_is_light(served, people, runs):
    client = people.operator
    answer = client.get("/", **GZIP)
    assert answer["content-encoding"] == "gzip"
    page = body(client.get("/")).decode()
    assets = assets_of(client, page)
    assert {Path(address).name[:4] for address in assets} == {"app.", "htmx", "icon"}
    first, later = sum(assets.values()) + len(body(answer)), len(body(answer))
    assert first < 100 * KB, assets
    assert later < 20 * KB


def test_a_page_of_fifty_runs_is_light_once_the_rest_is_known(served, people, runs, many):
    many(60)
    assert len(body(people.operator.get("/runs/", **GZIP))) < 20 * KB
