"""An unfit host clears nothing, and every page and command says so."""

from typing import Any

import pytest
from django.db import connection

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.lab import readiness
from cleanup.models import RetentionPolicy
from cleanup.rules.decisions import Gate
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import stored_facts
from cleanup.storage import linux
from cleanup.sweeps import all_roots
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(lab: Lab, root: Any, now: Any) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture(params=["kernel", "database"])
def unfit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "kernel":
        monkeypatch.setattr(linux, "missing_calls", lambda: ["openat2"])
        yield Reason.CLEARING_UNSUPPORTED
        return
    with connection.cursor() as cursor:
        cursor.execute(_LAPSE[connection.vendor][0])
        yield Reason.DATABASE_NOT_DURABLE
        cursor.execute(_LAPSE[connection.vendor][1])


_LAPSE = {
    "sqlite": ("PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"),
    "postgresql": ("SET synchronous_commit = off", "SET synchronous_commit = on"),
}


def test_this_host_may_clear() -> None:
    assert readiness.hindrances() == ()


def test_nothing_is_cleared(scene: Scene, unfit: Reason, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is unfit
    (swept,) = all_roots.sweep(now=scene.now).runs
    assert (swept.action, swept.reason) == ("skipped", unfit)
    scene.assert_whole()


def test_a_decision_on_stored_facts_says_so(scene: Scene, unfit: Reason) -> None:
    hindrances = readiness.hindrances()
    decision = stored_facts.decision(scene.run, RetentionPolicy.objects.scoped(), scene.now, hindrances=hindrances)
    assert decision.gate(Gate.PATH).reason is unfit
    assert not decision.worth_trying


def test_the_pages_say_so_and_offer_no_button(scene: Scene, unfit: Reason, admin_client: Any) -> None:
    for address in ("/", f"/runs/{scene.run.pk}/"):
        page = admin_client.get(address)
        assert page.status_code == 200
        text = page.content.decode()
        assert "Nothing can be cleared here." in text
        assert unfit.value in text
        assert "Clear&nbsp;now" not in text
        assert "Clear now" not in text


def test_a_parked_run_is_told_on_the_pages_and_may_be_tried_again(scene: Scene, admin_client: Any) -> None:
    from cleanup.models import Run

    Run.objects.update(failures=3)
    Run.objects.all().doubt()
    assert Reason.PARKED.sentence in admin_client.get("/problems/").content.decode()
    text = admin_client.get("/runs/?verdict=block").content.decode()
    assert "Parked" in text
    assert "Try again" in text
    text = admin_client.get(f"/runs/{scene.run.pk}/").content.decode()
    assert "parked" in text
    assert "Try again" in text
