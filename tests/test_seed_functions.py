"""The three functions of ExLab-Wizard's own cleanup, called as its callers and this program call them."""

import ast
import asyncio
import enum
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

import cleanup
from cleanup import aclear_run, cleanup_eligible, clear_run, freed_bytes_and_count
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import registration
from cleanup.models import ClearAttempt, IngestEvent, Run, StagingRoot
from cleanup.rules.policies.policy import Mode, Policy
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import run_paths
from cleanup.storage.staging.records import ingest_json as ingest
from tests.faults import mounts
from tests.faults.cases import survey
from tests.faults.means import Unavailable, skip_or_fail
from tests.faults.scene import Scene, set_scene
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import METADATA, RUN_PATH, Lab, read_ingest

OTHER_RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
VERIFIED = "2026-04-17T16:15:43Z"
VERIFIED_AT = datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


# cleanup_eligible


class WizardState(enum.StrEnum):
    STAGING = "staging"
    COMPLETE = "complete"
    SYNC_QUEUED = "sync_queued"
    SYNC_VERIFIED = "sync_verified"
    CLEARED = "cleared"


class WizardMode(enum.Enum):
    MANUAL = "manual"
    SCHEDULED = "scheduled"


def wizard_record(state: str, history: Any) -> Any:
    return SimpleNamespace(schema_version="1.1", current_state=WizardState(state), history=history)


def parsed_record(state: str, history: Any) -> Any:
    return json.loads(json.dumps({"schema_version": "1.1", "current_state": state, "history": history}))


def our_record(state: str, history: Any) -> Any:
    entries = [
        ingest.HistoryEntry(entry["state"], ingest.parse_instant(entry.get("at")), str(entry.get("at")), "", "")
        for entry in history
    ]
    return ingest.Ingest("1.1", state, tuple(entries), "")


def wizard_config(mode: Any, retain_hours: Any) -> Any:
    staging_cleanup = SimpleNamespace(mode=mode, retain_hours=retain_hours)
    return SimpleNamespace(orchestrator=SimpleNamespace(staging_cleanup=staging_cleanup))


RULES: dict[str, Callable[[str, float], dict[str, Any]]] = {
    "its config": lambda mode, hours: {"config": wizard_config(mode, hours)},
    "its config, with enums": lambda mode, hours: {"config": wizard_config(WizardMode(mode), hours)},
    "plain dicts": lambda mode, hours: {
        "config": {"orchestrator": {"staging_cleanup": {"mode": mode, "retain_hours": hours}}}
    },
    "our policy": lambda mode, hours: {"policy": Policy(mode=Mode(mode), retain_hours=hours)},
}
RECORDS = {"its record": wizard_record, "parsed": parsed_record, "our record": our_record}


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Callable[[str, float], dict[str, Any]]:
    return RULES[request.param]


@pytest.fixture(params=RECORDS)
def record(request: pytest.FixtureRequest) -> Callable[[str, Any], Any]:
    return RECORDS[request.param]


def entries(*instants: str | None, state: str = "sync_verified") -> list[dict[str, Any]]:
    """A history that begins weeks before, with an entry in `state` at each instant; None: without one."""
    first = {"state": "staging", "at": "2026-03-01T00:00:00Z", "host": "labpc-04"}
    return [first, *({"state": state, **({} if at is None else {"at": at})} for at in instants)]


class TestEligible:
    @pytest.mark.parametrize(("after", "eligible"), [(DAY - SECOND, False), (DAY, True), (DAY + SECOND, True)])
    def test_scheduled_after_its_hours_and_the_boundary_counts(
        self, rule: Any, record: Any, after: timedelta, eligible: bool
    ) -> None:
        ingest = record("sync_verified", entries(VERIFIED))
        assert cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + after, **rule("scheduled", 24)) is eligible

    def test_manual_never(self, rule: Any, record: Any) -> None:
        ingest = record("sync_verified", entries(VERIFIED))
        assert not cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + 9000 * DAY, **rule("manual", 1))

    @pytest.mark.parametrize("state", ["staging", "complete", "sync_queued", "cleared"])
    def test_no_other_state(self, rule: Any, record: Any, state: str) -> None:
        ingest = record(state, [*entries(VERIFIED), *entries(VERIFIED, state=state)])
        assert not cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + 9000 * DAY, **rule("scheduled", 1))

    def test_the_latest_verification_counts(self, rule: Any, record: Any) -> None:
        ingest = record("sync_verified", entries("2026-03-02T00:00:00Z", VERIFIED))
        assert not cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + DAY - SECOND, **rule("scheduled", 24))
        assert cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + DAY, **rule("scheduled", 24))

    @pytest.mark.parametrize(
        "instants",
        [(), (None,), ("",), ("not-an-iso-timestamp",), ("2026-03-02T00:00:00Z", "not-an-iso-timestamp")],
        ids=["no entry", "no instant", "empty", "no date", "an older good one"],
    )
    def test_no_usable_instant(self, rule: Any, record: Any, instants: tuple[str | None, ...]) -> None:
        ingest = record("sync_verified", entries(*instants))
        assert not cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + 9000 * DAY, **rule("scheduled", 1))

    @pytest.mark.parametrize(
        "at",
        ["2026-04-17T18:15:43+02:00", "2026-04-17T16:15:43+00:00", "2026-04-17T16:15:43", "2026-04-17T16:15:43.000Z"],
        ids=["another zone", "no Z", "no zone is UTC", "with fractions"],
    )
    def test_the_same_instant_written_otherwise(self, rule: Any, record: Any, at: str) -> None:
        ingest = record("sync_verified", entries(at))
        assert not cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + DAY - SECOND, **rule("scheduled", 24))
        assert cleanup_eligible(ingest=ingest, now_utc=VERIFIED_AT + DAY, **rule("scheduled", 24))

    def test_the_zone_of_now_does_not_matter(self, rule: Any, record: Any) -> None:
        ingest = record("sync_verified", entries(VERIFIED))
        there = (VERIFIED_AT + DAY).astimezone()
        assert cleanup_eligible(ingest=ingest, now_utc=there, **rule("scheduled", 24))

    def test_without_an_instant_it_is_the_present(self, rule: Any, record: Any) -> None:
        an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ingest = record("sync_verified", entries(an_hour_ago))
        assert cleanup_eligible(ingest=ingest, **rule("scheduled", 1))
        assert not cleanup_eligible(ingest=ingest, **rule("scheduled", 2))

    def test_the_record_of_a_real_run(self, rule: Any, lab: Lab) -> None:
        path = lab.run(verified_at=VERIFIED_AT)
        data = (path / METADATA / "ingest.json").read_bytes()
        for ingest_ in (json.loads(data), ingest.parse(data, run_paths.parse_run_path(RUN_PATH))):
            assert not cleanup_eligible(ingest=ingest_, now_utc=VERIFIED_AT + DAY - SECOND, **rule("scheduled", 24))
            assert cleanup_eligible(ingest=ingest_, now_utc=VERIFIED_AT + DAY, **rule("scheduled", 24))

    @pytest.mark.parametrize("mode", ["", "automatic", None, 1])
    def test_an_unknown_mode_keeps_the_run(self, mode: Any) -> None:
        config = wizard_config(mode, 1)
        assert not cleanup_eligible(ingest=parsed_record("sync_verified", entries(VERIFIED)), config=config)

    def test_manual_does_not_ask_for_hours(self) -> None:
        config = {"orchestrator": {"staging_cleanup": {"mode": "manual"}}}
        assert not cleanup_eligible(ingest=parsed_record("sync_verified", entries(VERIFIED)), config=config)


class TestStricterThanTheWizard:
    """Where the wizard's function takes a chance or crashes, this one keeps the run or says what is wrong."""

    LONG_AFTER = VERIFIED_AT + 9000 * DAY

    @pytest.mark.parametrize(
        "at", ["2026-04-17", "20260417T161543Z", "2026-W16-5", "2026-04-17 16:15:43Z", "2026-04-17T16", 5, ["x"]]
    )
    def test_no_instant_but_as_the_wizard_writes_it(self, at: Any) -> None:
        ingest = parsed_record("sync_verified", entries(at))
        assert not cleanup_eligible(ingest=ingest, config=wizard_config("scheduled", 1), now_utc=self.LONG_AFTER)

    @pytest.mark.parametrize(
        "ingest",
        [
            {},
            {"current_state": "sync_verified"},
            {"current_state": "sync_verified", "history": None},
            {"current_state": "sync_verified", "history": "sync_verified"},
            {"current_state": "sync_verified", "history": [None, *entries(VERIFIED)]},
            {"current_state": "sync_verified", "history": [{"at": VERIFIED}, *entries(VERIFIED)]},
            {"history": entries(VERIFIED)},
            None,
            [],
        ],
        ids=[
            "empty",
            "no history",
            "null",
            "a text",
            "an entry of nothing",
            "no state",
            "no current state",
            "none",
            "list",
        ],
    )
    def test_a_record_that_cannot_be_read_keeps_the_run(self, ingest: Any) -> None:
        assert not cleanup_eligible(ingest=ingest, config=wizard_config("scheduled", 1), now_utc=self.LONG_AFTER)

    @pytest.mark.parametrize("hours", [24 * 366 * 10_000, 1e300, float("inf")])
    def test_hours_beyond_the_calendar_keep_the_run(self, hours: float) -> None:
        ingest = parsed_record("sync_verified", entries(VERIFIED))
        assert not cleanup_eligible(ingest=ingest, config=wizard_config("scheduled", hours), now_utc=self.LONG_AFTER)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "needs either a policy, or a config"),
            ({"config": wizard_config("scheduled", 1), "policy": Policy()}, "needs either a policy, or a config"),
            ({"policy": wizard_config("scheduled", 1)}, "the wizard's goes into config"),
            ({"config": {}}, "it has no orchestrator"),
            ({"config": SimpleNamespace(orchestrator=None)}, "it has no staging_cleanup"),
            ({"config": {"orchestrator": {"staging_cleanup": {}}}}, "it has no mode"),
            ({"config": {"orchestrator": {"staging_cleanup": {"mode": "scheduled"}}}}, "it has no retain_hours"),
            ({"config": wizard_config("scheduled", "24")}, "not a number of hours"),
            ({"config": wizard_config("scheduled", True)}, "not a number of hours"),
            ({"config": wizard_config("scheduled", 1), "now_utc": datetime(2026, 5, 1)}, "needs a time zone"),
        ],
    )
    def test_what_decides_nothing_is_a_sentence(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(TypeError, match=words):
            cleanup_eligible(ingest=parsed_record("sync_verified", entries(VERIFIED)), **arguments)

    @pytest.mark.parametrize("hours", [-1, -0.5, float("nan")])
    def test_hours_below_nothing_are_a_sentence(self, hours: float) -> None:
        with pytest.raises(ValueError, match="not 0 or more"):
            cleanup_eligible(
                ingest=parsed_record("sync_verified", entries(VERIFIED)), config=wizard_config("scheduled", hours)
            )


# clear_run, with a path or with a run


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


def a_run(scene: Scene) -> Any:
    return scene.run


def a_path(scene: Scene) -> Any:
    return scene.path


def a_text(scene: Scene) -> Any:
    return str(scene.path)


def with_detours(scene: Scene) -> Any:
    return f"//{str(scene.path.parent).lstrip('/')}/.//{scene.path.name}/"


def climbing(scene: Scene) -> Any:
    return f"{scene.path}/../{scene.path.name}"


def below_its_root(scene: Scene) -> Any:
    return RUN_PATH


def below_its_root_with_a_slash(scene: Scene) -> Any:
    return f"./{RUN_PATH}/"


def through_a_link_to_the_root(scene: Scene) -> Any:
    link = scene.lab.base / "also staging"
    link.symlink_to(scene.lab.staging)
    return link / RUN_PATH


def through_a_link_to_a_folder_of_runs(scene: Scene) -> Any:
    link = scene.lab.base / "runs of today"
    link.symlink_to(scene.path.parent)
    return link / scene.path.name


FORMS = [
    a_run,
    a_path,
    a_text,
    with_detours,
    climbing,
    below_its_root,
    below_its_root_with_a_slash,
    through_a_link_to_the_root,
    through_a_link_to_a_folder_of_runs,
]


@pytest.mark.django_db
class TestClearRun:
    @pytest.mark.parametrize("named", FORMS)
    def test_clears_the_run_however_it_is_named(self, scene: Scene, named: Callable[[Scene], Any]) -> None:
        neighbour = scene.lab.run(OTHER_RUN)
        before = survey(neighbour)
        assert clear_run(named(scene), now=scene.now, actor="ada", note="disk is full") == (scene.files, scene.bytes)
        scene.assert_cleared()
        attempt = scene.run.attempts.get()
        assert (attempt.actor, attempt.note, attempt.requester) == ("ada", "disk is full", "operator")
        assert survey(neighbour) == before

    @pytest.mark.parametrize(
        "named",
        [
            a_run,
            a_path,
            *(pytest.param(form, marks=pytest.mark.exhaustive) for form in FORMS if form not in (a_run, a_path)),
        ],
    )
    def test_and_so_does_the_one_for_coroutines(self, scene: Scene, named: Callable[[Scene], Any]) -> None:
        freed = async_to_sync(aclear_run)(named(scene), now=scene.now, actor="ada", note="disk is full")
        assert freed == (scene.files, scene.bytes)
        scene.assert_cleared()
        attempt = scene.run.attempts.get()
        assert (attempt.actor, attempt.note, attempt.requester) == ("ada", "disk is full", "operator")

    @pytest.mark.parametrize("clear", [clear_run, async_to_sync(aclear_run)], ids=["sync", "async"])
    def test_the_wizards_arguments_are_taken_and_ignored(self, scene: Scene, settings: Any, clear: Any) -> None:
        """A manual mode or another host's name changes neither who clears nor the policy."""
        writer = SimpleNamespace()
        config = wizard_config("manual", 24)
        freed = clear(scene.path, config=config, ingest_writer=writer, host="another host")
        assert freed == (scene.files, scene.bytes)
        scene.assert_cleared()
        event = IngestEvent.objects.get(state="cleared")
        assert event.host == settings.EXLAB_HOST
        assert abs(event.at - datetime.now(UTC)) < timedelta(minutes=5)  # `now` left out

    def test_a_way_that_climbs_out_of_a_link_is_followed_as_the_disk_follows_it(self, scene: Scene) -> None:
        """Normalised it would be the one run, but it leads to another."""
        path = scene.lab.run(RUN_PATH.replace("CONFOCAL_01", "FLOW_01"))
        (scene.lab.staging / "CONFOCAL_01" / "link").symlink_to(path.parents[1])
        counted = freed_bytes_and_count(path)
        below = RUN_PATH.removeprefix("CONFOCAL_01/")
        assert clear_run(f"{scene.lab.staging}/CONFOCAL_01/link/../{below}", now=scene.now) == counted
        assert not path.exists()
        scene.assert_whole()

    def test_counts_like_freed_bytes_and_count(self, scene: Scene) -> None:
        counted = freed_bytes_and_count(scene.path)
        assert clear_run(scene.path, now=scene.now) == counted == (scene.files, scene.bytes)
        assert freed_bytes_and_count(scene.path) == (0, 0)

    @pytest.mark.parametrize("named", [a_run, a_path, below_its_root])
    def test_twice_is_harmless(self, scene: Scene, named: Callable[[Scene], Any]) -> None:
        clear_run(named(scene), now=scene.now)
        assert clear_run(named(scene), now=scene.now) == (0, 0)
        assert clear_run(named(scene), now=scene.now) == (0, 0)
        scene.assert_cleared()
        assert scene.run.attempts.count() == 1

    def test_a_cleared_run_is_nothing_also_where_its_disk_is_not_mounted(self, scene: Scene) -> None:
        clear_run(scene.path, now=scene.now)
        (scene.lab.staging / ".exlab-root").rename(scene.lab.base / "token")
        assert clear_run(scene.path, now=scene.now) == (0, 0)
        scene.assert_cleared()

    @pytest.mark.parametrize("path", [OTHER_RUN, "FLOW_01/PROJ-0001/Runs/Run_2026-01-01T10-00", "nowhere/at all"])
    @pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "below a root"])
    def test_where_nothing_lies_nothing_is_freed(self, scene: Scene, path: str, absolute: bool) -> None:
        assert clear_run(scene.lab.staging / path if absolute else path, now=scene.now) == (0, 0)
        assert not ClearAttempt.objects.exists()
        scene.assert_whole()

    def test_where_nothing_lies_beneath_no_root_nothing_is_freed_and_the_log_says_so(
        self, scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="cleanup"):
            assert clear_run(tmp_path / "missing" / "Run_2026-04-17T14-32-00", now=scene.now) == (0, 0)
        (line,) = caplog.messages
        assert f"beneath no staging root of this host ({scene.lab.staging})" in line
        scene.assert_whole()

    def test_a_run_that_went_without_us_frees_nothing(self, scene: Scene) -> None:
        scene.path.rename(scene.lab.base / "taken away")
        assert clear_run(scene.path, now=scene.now) == (0, 0)
        assert scene.states()[-1] == "sync_verified"

    def test_a_run_that_discovery_has_not_seen_is_looked_at_first(self, scene: Scene) -> None:
        """The wizard's watcher clears a run at the look that finds it verified."""
        path = scene.lab.run(OTHER_RUN)
        counted = freed_bytes_and_count(path)
        assert clear_run(path, now=scene.now) == counted
        assert not path.exists()
        assert Run.objects.get(run_path=OTHER_RUN).state == "cleared"
        scene.assert_whole()

    def test_a_verification_that_discovery_has_not_seen_is_looked_at_first(
        self, lab: Lab, root: Any, now: datetime
    ) -> None:
        path = lab.run(OTHER_RUN, state="sync_queued")
        discovery.discover(root, now=now)
        verified = Lab(lab.base / "verified")
        metadata = verified.run(OTHER_RUN) / METADATA
        for name in ("ingest.json", "checksums.sha256"):
            (path / METADATA / name).write_bytes((metadata / name).read_bytes())
        lab.twin(OTHER_RUN).parent.mkdir(parents=True)
        verified.twin(OTHER_RUN).rename(lab.twin(OTHER_RUN))
        counted = freed_bytes_and_count(path)
        assert clear_run(OTHER_RUN, now=now) == counted
        assert not path.exists()

    def test_a_new_run_at_a_cleared_runs_path_is_looked_at_first(self, scene: Scene) -> None:
        clear_run(scene.path, now=scene.now)
        scene.lab.run(RUN_PATH, state="staging")
        with pytest.raises(Refused) as refused:
            clear_run(scene.path, now=scene.now)
        assert refused.value.finding.reason is Reason.NOT_SYNC_VERIFIED
        assert read_ingest(scene.path)["current_state"] == "staging"

    def test_what_another_program_called_cleared_and_left_there_is_not_called_nothing(self, scene: Scene) -> None:
        path = scene.lab.run(OTHER_RUN, state="cleared")
        before = survey(path)
        for _twice in range(2):
            with pytest.raises(Refused) as refused:
                clear_run(path, now=scene.now)
            assert refused.value.finding.reason is Reason.ALREADY_CLEARED
        assert survey(path) == before

    @pytest.mark.parametrize("clear", [clear_run, async_to_sync(aclear_run)], ids=["sync", "async"])
    def test_every_gate_stands(self, scene: Scene, clear: Any) -> None:
        (scene.twin / "tiles/t_0001.tif").unlink()
        with pytest.raises(Refused) as refused:
            clear(scene.path, now=scene.now)
        assert refused.value.finding.reason is Reason.NAS_MISSING_FILE
        assert scene.path.is_dir()

    @pytest.mark.parametrize("state", ["staging", "complete", "sync_queued"])
    def test_only_what_is_verified_goes(self, lab: Lab, root: Any, now: datetime, state: str) -> None:
        path = lab.run(state=state)
        before = survey(path)
        with pytest.raises(Refused) as refused:
            clear_run(path, now=now)
        assert refused.value.finding.reason is Reason.NOT_SYNC_VERIFIED
        assert survey(path) == before

    def test_a_run_without_its_record_stays(self, scene: Scene) -> None:
        """The wizard removes such a run."""
        path = scene.lab.staging / OTHER_RUN
        path.mkdir(parents=True)
        (path / "data.bin").write_bytes(b"hello")
        before = survey(path)
        with pytest.raises(Refused) as refused:
            clear_run(path, now=scene.now)
        assert refused.value.finding.reason is Reason.INGEST_UNREADABLE
        assert survey(path) == before

    def test_the_log_says_what_was_freed(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="cleanup"):
            clear_run(scene.path, now=scene.now, actor="ada")
        assert f"cleared {RUN_PATH}: {scene.files} files, {scene.bytes} bytes freed by ada" in caplog.messages


@pytest.mark.django_db
class TestNoOtherPath:
    """The wizard's function removes any path, run or not."""

    def refused(self, scene: Scene, path: Any) -> Reason:
        before = survey(scene.lab.base.parent)
        with pytest.raises(Refused) as refused:
            clear_run(path, now=scene.now)
        assert survey(scene.lab.base.parent) == before
        assert not ClearAttempt.objects.exists()
        scene.assert_whole()
        return refused.value.finding.reason

    def test_of_another_folder(self, scene: Scene, tmp_path: Path) -> None:
        elsewhere = Lab(tmp_path / "another lab").run()
        assert self.refused(scene, elsewhere) is Reason.UNSAFE_PATH
        assert self.refused(scene, scene.twin) is Reason.UNSAFE_PATH
        assert self.refused(scene, "/") is Reason.UNSAFE_PATH
        assert self.refused(scene, f"{scene.path}/{os.path.relpath(elsewhere, scene.path)}") is Reason.UNSAFE_PATH
        assert self.refused(scene, os.path.relpath(elsewhere, scene.lab.staging)) is Reason.UNSAFE_PATH

    def test_of_a_root_that_only_begins_with_the_same_letters(self, scene: Scene) -> None:
        elsewhere = scene.lab.base / "staging-old" / RUN_PATH
        elsewhere.mkdir(parents=True)
        with pytest.raises(Refused, match="beneath no staging root of this host"):
            clear_run(elsewhere, now=scene.now)
        assert elsewhere.is_dir()

    @pytest.mark.parametrize(
        "below",
        ["", ".", "CONFOCAL_01", "CONFOCAL_01/PROJ-0042/Runs", f"{RUN_PATH}/tiles", f"{RUN_PATH}/{METADATA}"],
    )
    def test_of_more_or_less_than_a_run(self, scene: Scene, below: str) -> None:
        assert self.refused(scene, f"{scene.lab.staging}/{below}") is Reason.UNSAFE_PATH

    def test_of_a_link(self, scene: Scene, tmp_path: Path) -> None:
        link = tmp_path / "my run"
        link.symlink_to(scene.path)
        assert self.refused(scene, link) is Reason.UNSAFE_PATH
        inside = scene.lab.staging / OTHER_RUN
        inside.symlink_to(scene.path)
        assert self.refused(scene, inside) is Reason.UNSAFE_PATH

    def test_of_a_run_that_the_disk_finds_under_another_spelling(self, scene: Scene, tmp_path: Path) -> None:
        """A row for each spelling would be a run without holds. Takes 1 s: a mount that ignores case."""
        disk = tmp_path / "disk"
        scene.lab.staging.rename(disk)
        scene.lab.staging.mkdir()
        otherwise = Path(str(scene.path).replace("CONFOCAL_01", "confocal_01"))
        try:
            with mounts.rclone(scene.lab.staging, disk, tmp_path / "cache", "--vfs-case-insensitive"):
                assert otherwise.is_dir()
                with pytest.raises(Refused, match="the disk spells it otherwise"):
                    clear_run(otherwise, now=scene.now)
        except Unavailable as missing:
            skip_or_fail(missing)
        assert [run.run_path for run in Run.objects.all()] == [RUN_PATH]

    def test_of_a_run_in_whose_place_a_link_lies(self, scene: Scene, tmp_path: Path) -> None:
        moved = tmp_path / "moved"
        scene.path.rename(moved)
        scene.path.symlink_to(moved)
        before = survey(tmp_path)
        with pytest.raises(Refused) as refused:
            clear_run(scene.path, now=scene.now)
        assert refused.value.finding.reason is Reason.UNSAFE_PATH
        assert survey(tmp_path) == before

    def test_of_another_host(self, scene: Scene) -> None:
        StagingRoot.objects.update(host="labpc-05")
        assert self.refused(scene, scene.path) is Reason.UNSAFE_PATH
        assert self.refused(scene, RUN_PATH) is Reason.UNSAFE_PATH

    def test_of_a_disk_that_is_not_mounted(self, scene: Scene) -> None:
        (scene.lab.staging / ".exlab-root").rename(scene.lab.base / "token")
        assert self.refused(scene, scene.lab.staging / OTHER_RUN) is Reason.ROOT_NOT_MOUNTED
        assert self.refused(scene, OTHER_RUN) is Reason.ROOT_NOT_MOUNTED
        with pytest.raises(Refused, match="root_not_mounted"):
            clear_run(scene.path, now=scene.now)
        scene.assert_whole()

    def test_where_two_roots_have_it_the_path_must_say_which(self, scene: Scene, now: datetime) -> None:
        other = Lab(scene.lab.base / "west")
        registration.register(
            "west", str(other.staging), nas_path=str(other.nas), allow_same_filesystem=True, accept_empty=True, now=now
        )
        for lab in (scene.lab, other):
            lab.run(OTHER_RUN)
        with pytest.raises(ValueError, match="stands for runs in lab, west: name it by its absolute path"):
            clear_run(OTHER_RUN, now=now)
        for root in StagingRoot.objects.all():
            discovery.discover(root, now=now)
        with pytest.raises(ValueError, match="stands for runs in lab, west: name it by its absolute path"):
            clear_run(OTHER_RUN, now=now)
        counted = freed_bytes_and_count(other.staging / OTHER_RUN)
        assert clear_run(other.staging / OTHER_RUN, now=now) == counted
        assert not (other.staging / OTHER_RUN).exists()
        assert (scene.lab.staging / OTHER_RUN).exists()
        assert clear_run(RUN_PATH, now=now) == (scene.files, scene.bytes)

    @pytest.mark.parametrize("path", ["", "CONFOCAL_01\0/x", f"/{RUN_PATH}\0"])
    def test_that_is_no_path(self, scene: Scene, path: str) -> None:
        with pytest.raises(ValueError, match="needs the path of a run"):
            clear_run(path, now=scene.now)

    @pytest.mark.parametrize("thing", [None, 5, ["x"]])
    def test_that_is_no_text(self, scene: Scene, thing: Any) -> None:
        with pytest.raises(TypeError):
            clear_run(thing, now=scene.now)

    @pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "below a root"])
    def test_with_bytes_that_no_run_has(self, scene: Scene, absolute: bool) -> None:
        below = os.fsdecode(b"CONFOCAL_01/PROJ-0042/Runs/Run_\xff")
        assert clear_run(f"{scene.lab.staging}/{below}" if absolute else below, now=scene.now) == (0, 0)
        (scene.lab.staging / below).mkdir()
        assert self.refused(scene, scene.lab.staging / below) is Reason.UNSAFE_PATH

    def test_nor_an_instant_without_a_zone(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match="needs a time zone"):
            clear_run(scene.path, now=datetime(2026, 6, 15))
        scene.assert_whole()


# In an event loop


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in its own thread: the browser tests leave a loop in the main one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.mark.django_db(transaction=True)
def test_the_event_loop_goes_on_during_a_clear(scene: Scene) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def clear() -> tuple[int, int]:
        ticking = asyncio.create_task(tick())
        try:
            return await aclear_run(scene.path, config=None, ingest_writer=None, now=scene.now)
        finally:
            ticking.cancel()
            await sync_to_async(connections.close_all)()

    assert in_a_loop(clear()) == (scene.files, scene.bytes)
    assert ticks > 10
    scene.assert_cleared()


@pytest.mark.django_db
def test_a_coroutine_that_forgets_to_await_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)  # set by the tests that drive a browser

    async def clear() -> tuple[int, int]:
        return clear_run(scene.path, now=scene.now)

    with pytest.raises(SynchronousOnlyOperation, match="Await aclear_run"):
        in_a_loop(clear())
    scene.assert_whole()


# freed_bytes_and_count


@pytest.mark.django_db
def test_counts_every_file_of_a_run_once(scene: Scene) -> None:
    assert freed_bytes_and_count(scene.path) == freed_bytes_and_count(run_path=str(scene.path))
    assert freed_bytes_and_count(scene.path) == (scene.files, scene.bytes)
    assert freed_bytes_and_count(scene.path / "not there") == (0, 0)
    (scene.path / "link").symlink_to(scene.twin)
    os.link(scene.path / "tiles/t_0001.tif", scene.path / "twice.tif")
    assert freed_bytes_and_count(scene.path) == (scene.files, scene.bytes)
    assert freed_bytes_and_count(scene.path / "link") == (0, 0)


# In a plain interpreter


def python(program: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    if env is None:
        env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60)


def test_the_names_are_those_of_the_wizard_and_one_for_coroutines() -> None:
    assert cleanup.__all__ == ["aclear_run", "cleanup_eligible", "clear_run", "freed_bytes_and_count"]
    for name in cleanup.__all__:
        assert getattr(cleanup, name).__name__ == name


def test_the_documents_show_every_one() -> None:
    program = (CHECKOUT / "docs/from-python.md").read_text().partition("```python\n")[2].partition("```")[0]
    compile(program, "from-python.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert f"from cleanup import {', '.join(cleanup.__all__)}\n" in program
    assert [name for name in cleanup.__all__ if f"{name}(" not in program] == []


def test_all_are_imported_before_django_is_set_up() -> None:
    done = python(f"from cleanup import {', '.join(cleanup.__all__)}; import sys; print('django' in sys.modules)")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "False\n")


@pytest.mark.parametrize("settings_module", ["", "exlab.settings"], ids=["no settings", "settings alone"])
@pytest.mark.parametrize("name", ["clear_run", "aclear_run"])
def test_a_clear_without_django_says_what_is_missing(name: str, settings_module: str) -> None:
    call = {"clear_run": "cleanup.clear_run('/x')", "aclear_run": "asyncio.run(cleanup.aclear_run('/x'))"}[name]
    settings_set = f"import os; os.environ['DJANGO_SETTINGS_MODULE'] = '{settings_module}'; " if settings_module else ""
    done = python(f"{settings_set}import asyncio, cleanup; {call}")
    last = done.stderr.splitlines()[-1]
    words = f"Set DJANGO_SETTINGS_MODULE=exlab.settings and call django.setup() before {name}."
    assert (done.returncode, last) == (1, f"django.core.exceptions.ImproperlyConfigured: {words}")


def test_counting_and_deciding_need_no_django_at_all(lab: Lab) -> None:
    path = lab.run(verified_at=VERIFIED_AT)
    program = (
        "import sys; sys.modules['django'] = None\n"
        "import json, pathlib\n"
        "from cleanup import cleanup_eligible, freed_bytes_and_count\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "ingest = json.loads((run / '.exlab-wizard/ingest.json').read_bytes())\n"
        "config = {'orchestrator': {'staging_cleanup': {'mode': 'scheduled', 'retain_hours': 24}}}\n"
        "print(cleanup_eligible(ingest=ingest, config=config), freed_bytes_and_count(run))\n"
    )
    done = python(program, str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"True {freed_bytes_and_count(path)}\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "call", ["clear_run(path)", pytest.param("asyncio.run(aclear_run(path))", marks=pytest.mark.exhaustive)]
)
def test_a_plain_program_clears_a_run(scene: Scene, subprocess_env: dict[str, str], call: str) -> None:
    """Takes 1 s: an interpreter with Django starts."""
    program = (
        "import asyncio, pathlib, sys, django\n"
        "from cleanup import aclear_run, clear_run\n"
        "django.setup()\n"
        "path = pathlib.Path(sys.argv[1])\n"
        f"print({call}, {call})\n"
    )
    done = python(program, str(scene.path), env=subprocess_env)
    assert (done.returncode, done.stdout) == (0, f"({scene.files}, {scene.bytes}) (0, 0)\n"), done.stderr
    scene.assert_cleared()
