"""Where twins lie."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import nas_history
from cleanup.clears.refusal import Refused
from cleanup.lab.nas.nas_roots import twin_of
from cleanup.lab.roots import registration as lab_roots
from cleanup.lab.roots.registration import RegistrationError
from cleanup.models import Alert, ClearAttempt, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder, reregister_root
from tests.tools.lab import RUN_PATH, Lab, read_ingest

FLOW = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20"
SAME_LEAF = "CONFOCAL_01/PROJ-0051/Runs/Run_2026-04-17T14-32"
LEAF = "Run_2026-04-17T14-32"

pytestmark = pytest.mark.django_db


def register(lab: Lab, now: datetime, name: str = "lab", **options: Any) -> StagingRoot:
    places = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "accept_empty": True}
    return lab_roots.register(name, str(lab.staging), now=now, **{**places, **options})


def move_twin(lab: Lab, run_path: str, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    lab.twin(run_path).rename(place)
    return place


def discover(root: StagingRoot, now: datetime) -> discovery.Discovered:
    found = discovery.discover(StagingRoot.objects.get(pk=root.pk), now=now)
    assert found is not None
    return found


def run_at(run_path: str) -> Run:
    return Run.objects.staged().with_root().get(run_path=run_path)


def refusal(run: Run, now: datetime) -> tuple[Reason, str]:
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now)
    return refused.value.finding.reason, refused.value.finding.detail


@pytest.mark.parametrize(
    ("nas_layout", "place"),
    [
        ("equipment/leaf", f"CONFOCAL_01/{LEAF}"),
        ("leaf", LEAF),
        ("data/{project}/{leaf}", f"data/PROJ-0042/{LEAF}"),
    ],
)
@pytest.mark.parametrize("level", ["record", "size", "checksum"])
def test_a_run_whose_twin_lies_elsewhere_is_cleared_and_told(
    lab: Lab, now: datetime, policy: Callable[..., Any], nas_layout: str, place: str, level: str
) -> None:
    policy(proof=level)
    lab.run()
    twin = move_twin(lab, RUN_PATH, lab.nas / place)
    root = register(lab, now, nas_layout=nas_layout)
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    assert ClearAttempt.objects.get().twin_path == str(twin)
    assert nas_history.tell(now=timezone.now()) == 1
    assert [entry["state"] for entry in read_ingest(twin)["history"]][-1] == "cleared"


@pytest.mark.parametrize("place", ["outside", "below"])
def test_an_instrument_may_have_a_nas_root_of_its_own(lab: Lab, now: datetime, place: str) -> None:
    """Labs mount a share for each instrument, below the other share or beside it; the layout is relative to it."""
    lab.run()
    lab.run(FLOW)
    share = lab.base / "confocal" if place == "outside" else lab.nas / "shares/confocal"
    move_twin(lab, RUN_PATH, share / RUN_PATH)
    root = register(lab, now, instrument_nas={"CONFOCAL_01": str(share)})
    assert root.instrument_nas["CONFOCAL_01"]["token"] not in ("", root.nas_token)
    discover(root, now)
    for run_path in (RUN_PATH, FLOW):
        clear_run(run_at(run_path), now=now)
    assert nas_history.tell(now=timezone.now()) == 2
    shutil.rmtree(share)
    share.mkdir()
    lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-01T10-00")
    discover(root, now)
    assert refusal(run_at("CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-01T10-00"), now)[0] == Reason.NAS_NOT_MOUNTED


def test_an_instruments_nas_root_can_be_named_later_and_never_becomes_another(lab: Lab, now: datetime) -> None:
    lab.run()
    share = lab.base / "confocal"
    move_twin(lab, RUN_PATH, share / RUN_PATH)
    root = register(lab, now)
    root = register(lab, now, instrument_nas={"CONFOCAL_01": str(share)})
    assert root == register(lab, now, instrument_nas={"CONFOCAL_01": str(share)})
    (lab.base / "other").mkdir()
    for instruments, said in (
        ({"CONFOCAL_01": str(lab.base / "other")}, "has the NAS root"),
        ({"../x": str(share)}, "no name that an instrument"),
        ({"FLOW_01": str(lab.staging / "CONFOCAL_01")}, "lie one in the other"),
        ({"FLOW_01": str(lab.base / "nowhere")}, "cannot be found"),
    ):
        with pytest.raises(RegistrationError, match=said):
            register(lab, now, instrument_nas=instruments)


def test_two_runs_with_one_twin_are_both_blocked(lab: Lab, now: datetime) -> None:
    """Also where only upper and lower case differ, and where the other one is already cleared."""
    lab.run()
    lab.run(SAME_LEAF, twin=False)
    move_twin(lab, RUN_PATH, lab.nas / "CONFOCAL_01" / LEAF)
    root = register(lab, now, nas_layout="equipment/leaf")
    discover(root, now)
    discover(root, now)
    for run_path, other in ((RUN_PATH, SAME_LEAF), (SAME_LEAF, RUN_PATH)):
        reason, detail = refusal(run_at(run_path), now)
        assert reason == Reason.AMBIGUOUS_TWIN
        assert other in detail
    Run.objects.filter(run_path=SAME_LEAF).update(state="cleared", cleared_at=now)
    assert refusal(run_at(RUN_PATH), now)[0] == Reason.AMBIGUOUS_TWIN
    Run.objects.filter(run_path=SAME_LEAF).update(gone_at=now)
    clear_run(run_at(RUN_PATH), now=now)


@pytest.mark.parametrize("level", ["record", "size", "checksum"])
def test_a_twin_that_is_also_a_run_of_another_root_in_other_case(
    lab: Lab, now: datetime, tmp_path: Path, policy: Callable[..., Any], level: str
) -> None:
    policy(proof=level)
    lab.run()
    other = Lab(tmp_path / "lab-2")
    other.run(RUN_PATH.replace("PROJ", "proj"), twin=False)
    roots = [register(lab, now), register(other, now, "lab-2", nas_path=str(lab.nas))]
    for root in roots:
        discover(root, now)
    assert refusal(run_at(RUN_PATH), now)[0] == Reason.AMBIGUOUS_TWIN


@pytest.mark.parametrize(
    ("leaf", "other"),
    [
        ("Run_caf\u00e9", "Run_cafe\u0301"),
        ("Run_5\u03bcm", "Run_5\u00b5m"),
        ("Run_calibration", "Run_calibration."),
        ("Run_calibration", "Run_calibration. ."),
    ],
    ids=["accents", "micro signs", "a dot at the end", "a blank and dots"],
)
def test_two_runs_that_a_nas_may_keep_as_one_are_both_blocked(
    lab: Lab, now: datetime, policy: Callable[..., Any], leaf: str, other: str
) -> None:
    """Two on the disk; a NAS that treats their names as equal holds the bytes of one only."""
    policy(proof="size")
    folder, verified_at = RUN_PATH.rpartition("/")[0], now - timedelta(days=10)
    for name in (leaf, other):
        lab.run(f"{folder}/{name}", files={"a.raw": name.encode()[:9] * 9}, verified_at=verified_at)
    root = register(lab, now)
    discover(root, now)
    for name in (leaf, other):
        assert refusal(run_at(f"{folder}/{name}"), now)[0] == Reason.AMBIGUOUS_TWIN


def test_a_nas_root_within_another_shows_one_twin_twice(lab: Lab, now: datetime, tmp_path: Path) -> None:
    lab.run()
    other = Lab(tmp_path / "lab-2")
    other.run(twin=False)
    inner = lab.nas / "CONFOCAL_01"
    first = register(lab, now)
    second = register(
        other,
        now,
        "lab-2",
        nas_path="",
        instrument_nas={"CONFOCAL_01": str(inner)},
        nas_layout="{project}/{kind}/{leaf}",
    )
    for root in (first, second):
        discover(root, now)
    assert twin_of(Run.objects.get(root=first)).full_path == twin_of(Run.objects.get(root=second)).full_path
    assert refusal(Run.objects.with_root().get(root=first), now)[0] == Reason.AMBIGUOUS_TWIN


def test_a_nas_that_another_root_begins_to_use_shows_its_twins_twice_at_once(
    lab: Lab, now: datetime, tmp_path: Path, policy: Callable[..., Any]
) -> None:
    """Before any discovery: a clear may come first."""
    policy(proof="size")
    lab.run()
    other = Lab(tmp_path / "lab-2")
    other.run()
    first, second = register(lab, now), register(other, now, "lab-2")
    for root in (first, second):
        discover(root, now)
    reregister_root(second, RegisterOrder(now=now, actor="admin"), nas_path=str(lab.nas), with_runs=False)
    for root in (first, second):
        assert refusal(Run.objects.with_root().get(root=root), now)[0] == Reason.AMBIGUOUS_TWIN


@pytest.mark.parametrize(("level", "clears"), [("record", False), ("size", False), ("checksum", True)])
def test_without_bytes_the_twin_must_name_the_run(
    lab: Lab, now: datetime, policy: Callable[..., Any], level: str, clears: bool
) -> None:
    policy(proof=level)
    lab.run()
    twin = move_twin(lab, RUN_PATH, lab.nas / LEAF)
    record = twin / ".exlab-wizard/ingest.json"
    record.write_text(record.read_text().replace("PROJ-0042", "PROJ-0043"))
    discover(root := register(lab, now, nas_layout="leaf"), now)
    if clears:
        clear_run(run_at(RUN_PATH), now=now)
    else:
        reason, detail = refusal(run_at(RUN_PATH), now)
        assert (reason, "PROJ-0043" in detail) == (Reason.TWIN_UNNAMED, True)
        record.unlink()
        assert refusal(run_at(RUN_PATH), now) == (Reason.TWIN_UNNAMED, "it has no record that can be read")
    assert root.nas_layout == "leaf"


def test_discovery_proposes_the_layout_that_finds_more(lab: Lab, now: datetime) -> None:
    paths = [f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-3{number}" for number in range(5)]
    for run_path in paths:
        lab.run(run_path)
    for run_path in paths[:3]:
        move_twin(lab, run_path, lab.nas / "CONFOCAL_01" / run_path.rpartition("/")[2])
    root = register(lab, now)
    assert discover(root, now).proposal == {"layout": "equipment/leaf", "found": 3, "of": 5}
    root.refresh_from_db()
    assert root.layout_proposal == {"layout": "equipment/leaf", "found": 3, "of": 5}
    assert root.nas_layout == "run-path"
    root = register(lab, now, nas_layout="equipment/leaf")
    assert discover(root, now).proposal == {}
    for run_path in paths[:3]:
        clear_run(run_at(run_path), now=now)


def test_nothing_is_asked_where_each_run_has_its_copy(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    lab.run(FLOW)
    assert discover(root, now).proposal == {}


def test_a_template_must_keep_the_known_runs_apart(lab: Lab, now: datetime) -> None:
    lab.run()
    lab.run(SAME_LEAF)
    root = register(lab, now)
    discover(root, now)
    with pytest.raises(RegistrationError) as refused:
        register(lab, now, nas_layout="all/{leaf}")
    assert RUN_PATH in str(refused.value) and SAME_LEAF in str(refused.value)
    root.refresh_from_db()
    assert root.nas_layout == "run-path"


def test_a_cleared_runs_copy_that_another_run_has_overwritten_is_an_alert(lab: Lab, now: datetime) -> None:
    lab.run()
    move_twin(lab, RUN_PATH, lab.nas / "CONFOCAL_01" / LEAF)
    root = register(lab, now, nas_layout="equipment/leaf")
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    discover(root, now)
    assert not Alert.objects.exists()
    lab.run(SAME_LEAF, twin=False)
    discover(root, now)
    alert = Alert.objects.get(ended_at=None)
    assert (alert.kind, alert.reason) == ("twin", Reason.TWIN_OVERWRITTEN)
    assert RUN_PATH in alert.detail and SAME_LEAF in alert.detail
    shutil.rmtree(lab.staging / SAME_LEAF)
    Run.objects.filter(run_path=SAME_LEAF).update(gone_at=now)
    discover(root, now)
    assert not Alert.objects.filter(ended_at=None).exists()


def test_a_new_run_at_a_cleared_runs_own_path_is_told_and_not_blocked(lab: Lab, root: Any, now: datetime) -> None:
    """Its copy replaced that of the cleared run; it has its twin, and may go."""
    lab.run()
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    shutil.rmtree(lab.twin())
    lab.run(verified_at=now - timedelta(days=3))
    discover(root, now)
    assert Alert.objects.get(ended_at=None).reason == Reason.TWIN_OVERWRITTEN
    clear_run(run_at(RUN_PATH), now=now)


def test_a_cleared_run_that_is_copied_back_has_overwritten_nothing(lab: Lab, root: Any, now: datetime) -> None:
    run = lab.run()
    kept = lab.base / "kept"
    shutil.copytree(run, kept)
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    shutil.copytree(kept, run)
    discover(root, now)
    assert not Alert.objects.exists()


def test_a_cleared_run_keeps_the_place_where_its_data_lies(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    before = Run.objects.values_list("twin_key", "twin_place").get()
    register(lab, now, nas_layout="leaf")
    discover(root, now)
    assert Run.objects.values_list("twin_key", "twin_place").get() == before


def test_an_instruments_nas_root_that_moved_is_registered_again(lab: Lab, now: datetime, tmp_path: Path) -> None:
    lab.run()
    share = lab.base / "confocal"
    move_twin(lab, RUN_PATH, share / RUN_PATH)
    root = register(lab, now, instrument_nas={"CONFOCAL_01": str(share)})
    discover(root, now)
    elsewhere = tmp_path / "confocal-2"
    share.rename(elsewhere)
    assert refusal(run_at(RUN_PATH), now)[0] == Reason.NAS_NOT_MOUNTED
    (tmp_path / "empty").mkdir()
    order = RegisterOrder(now=now, actor="ada")
    for place, said in ((tmp_path / "empty", "is empty"), (lab.staging, "lie one in the other")):
        with pytest.raises(RegistrationError, match=said):
            reregister_root(root, order, instrument_nas={"CONFOCAL_01": str(place)}, with_runs=False)
    reregister_root(root, order, instrument_nas={"CONFOCAL_01": str(elsewhere)}, with_runs=False)
    clear_run(run_at(RUN_PATH), now=now)


def test_the_history_is_told_where_the_twin_lay_at_the_clear(lab: Lab, root: Any, now: datetime) -> None:
    """An admin may choose another layout before the NAS has been told."""
    lab.run()
    discover(root, now)
    clear_run(run_at(RUN_PATH), now=now)
    register(lab, now, nas_layout="leaf")
    assert nas_history.tell(now=timezone.now()) == 1
    assert [entry["state"] for entry in read_ingest(lab.twin())["history"]][-1] == "cleared"
