"""`set_policy` and `promote`."""

import io
from datetime import datetime, timedelta
from importlib import import_module

import pytest
from django.core.management.base import CommandError

from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.runs import discovery
from tests.tools.command_line import Done, Manage
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

EVERYTHING = {
    "--mode": ("scheduled", "mode", "scheduled"),
    "--retain-hours": ("30d", "retain_hours", 720),
    "--proof": ("size", "proof", "size"),
    "--min-retain-hours": ("36h", "min_retain_hours", 36),
    "--stalled-after": ("90m", "stalled_after_hours", 1.5),
    "--max-bytes": ("1.5TB", "max_bytes", 1_500_000_000_000),
    "--max-runs": ("500", "max_runs", 500),
    "--free-start": ("100GB", "free_start_bytes", 100 * 10**9),
    "--free-stop": ("200GiB", "free_stop_bytes", 200 * 2**30),
    "--budget-runs": ("50", "budget_runs", 50),
    "--budget-bytes": ("250000000", "budget_bytes", 250_000_000),
    "--budget-minutes": ("2h", "budget_minutes", 120),
    "--max-share": ("40%", "max_share", 0.4),
    "--rehearsal-nights": ("5", "rehearsal_nights", 5),
}


@pytest.fixture
def manage(db: None, capsys: pytest.CaptureFixture[str]) -> Manage:
    def run(name: str, *arguments: str) -> Done:
        out = io.StringIO()
        command = import_module(f"cleanup.management.commands.{name}").Command(stdout=out)
        command._called_from_command_line = True
        capsys.readouterr()
        try:
            options = vars(command.create_parser("manage.py", name).parse_args([*map(str, arguments)]))
            command.execute(**{**options, "skip_checks": True})
        except CommandError as error:
            return Done(error.returncode, out.getvalue(), str(error))
        except SystemExit as error:
            return Done(int(error.code or 0), out.getvalue(), capsys.readouterr().err)
        return Done(0, out.getvalue(), "")

    return run


@pytest.fixture
def known(lab: Lab, root: StagingRoot, now: datetime) -> Run:
    lab.run()
    discovery.discover(root, now=now)
    return Run.objects.get(run_path=RUN_PATH)


def test_every_field_can_be_set_and_unset(manage: Manage, root: StagingRoot) -> None:
    arguments = [word for option, (typed, _field, _value) in EVERYTHING.items() for word in (option, typed)]
    done = manage("set_policy", "--root", "lab", *arguments, "--note", "as agreed on Monday", "--json")
    assert done.status == 0, done.err
    version = RetentionPolicy.objects.get()
    for _typed, field, value in EVERYTHING.values():
        assert getattr(version, field) == value
        assert done.json[field] == value
    assert (done.json["rehearsal"], done.json["note"]) == ("rehearsing", "as agreed on Monday")
    assert (done.json["version"], done.json["root"], done.json["equipment"]) == (1, "lab", None)
    assert done.json["author"] == version.author != ""

    nones = [word for option in EVERYTHING for word in (option, "none")]
    done = manage("set_policy", "--root", "lab", *nones, "--json")
    assert done.status == 0, done.err
    assert {done.json[field] for _typed, field, _value in EVERYTHING.values()} == {None}
    assert RetentionPolicy.objects.count() == 2


def test_what_is_not_named_stays_as_it_was(manage: Manage, root: StagingRoot) -> None:
    manage("set_policy", "--root", "lab", "--mode", "scheduled", "--max-bytes", "1TB", "--rehearsal-nights", "0")
    answer = manage("set_policy", "--root", "lab", "--retain-hours", "0", "--at-once", "--json").json
    assert (answer["mode"], answer["retain_hours"], answer["max_bytes"]) == ("scheduled", 0, 10**12)
    assert (answer["version"], answer["rehearsal_nights"]) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "Say what to change"),
        ("--note because", "Say what to change"),
        ("--mode automatic", "invalid choice: 'automatic'"),
        ("--retain-hours -1", "between 0 and 87660 hours"),
        ("--retain-hours nan", "between 0 and 87660 hours"),
        ("--retain-hours 1e400", "between 0 and 87660 hours"),
        ("--retain-hours 11y", "between 0 and 87660 hours"),
        ("--min-retain-hours 99999d", "between 0 and 87660 hours"),
        ("--retain-hours 24 --min-retain-hours 48", "--min-retain-hours: The floor under pressure cannot be longer"),
        ("--stalled-after soon", "is no duration"),
        ("--budget-minutes 0", "is no duration above 0"),
        ("--budget-runs 0", "--budget-runs: "),
        ("--budget-bytes 0", "--budget-bytes: "),
        ("--max-share 0", "is no share"),
        ("--max-share 120%", "is no share"),
        ("--rehearsal-nights 1000", "--rehearsal-nights: "),
        ("--rehearsal-nights -1", "is no whole number"),
        ("--max-bytes 1TB", "--max-bytes: for one staging root, so say which with --root (lab)."),
        ("--free-start 1GB --free-stop 2GB", "--free-start, --free-stop: for one staging root"),
        ("--root lab --equipment CONFOCAL_01 --max-runs 5", "so without --equipment"),
        ("--equipment CONFOCAL_01 --budget-runs 5", "--budget-runs: The limits of a pass are set for a staging root"),
        ("--root lab --free-start 200GB --free-stop 100GB", "--free-stop: Clearing must stop at more free space"),
        ("--root lab --free-start 200GB --free-stop 200GB", "--free-stop: Clearing must stop at more free space"),
        ("--root lab --free-start 200GB", "--free-start: Free space needs both"),
        ("--root lab --max-bytes 5G", "is no size such as"),
        ("--root lab --max-bytes 2000PB", "is no size such as"),
        ("--root lap --mode manual", "No staging root lap is registered; nearest: lab."),
        ("--equipment CONFOKAL_01 --mode scheduled", "nearest: CONFOCAL_01. Add --new if"),
        ("--project PROJ-0024 --mode scheduled", "nearest: PROJ-0042. Add --new if"),
        ("--equipment ../CONFOCAL_01 --new --mode manual", "is a name that no equipment can have"),
        ("--equipment .hidden --new --mode manual", "is a name that no equipment can have"),
        (f"--equipment {'x' * 256} --new --mode manual", "is a name that no equipment can have"),
        ("--run-kind tests --mode manual", "invalid choice: 'tests'"),
        (f"--mode manual --note {'x' * 501}", "--note: "),
        ("--mode manual --note a\x1b[2Jb", "--note: write one line of text"),
        ("--mode manual --note \udcff", "--note: write one line of text"),
    ],
)
def test_bad_input_is_status_2_with_a_sentence_and_nothing_is_stored(
    known: Run, manage: Manage, arguments: str, sentence: str
) -> None:
    done = manage("set_policy", *arguments.split(" ") if arguments else [])
    assert (done.status, done.out) == (2, "")
    assert sentence in done.err, done.err
    assert not RetentionPolicy.objects.exists()


def test_a_refused_change_leaves_the_version_before(manage: Manage, root: StagingRoot) -> None:
    manage("set_policy", "--root", "lab", "--free-start", "1GB", "--free-stop", "2GB")
    done = manage("set_policy", "--root", "lab", "--free-start", "3GB")
    assert done.status == 2
    assert "Clearing must stop at more free space" in done.err
    assert RetentionPolicy.objects.get().free_start_bytes == 10**9


def test_every_mistake_gets_its_own_sentence(manage: Manage) -> None:
    done = manage("set_policy", "--budget-runs", "0", "--rehearsal-nights", "999")
    assert (done.err.count("--budget-runs:"), done.err.count("--rehearsal-nights:")) == (1, 1)


def test_an_instrument_without_a_run_is_meant_if_that_is_said(known: Run, manage: Manage) -> None:
    assert manage("set_policy", "--equipment", "NEW_SCOPE_01", "--mode", "manual").status == 2
    assert manage("set_policy", "--equipment", "NEW_SCOPE_01", "--mode", "manual", "--new").status == 0
    assert manage("set_policy", "--equipment", "NEW_SCOPE_01", "--retain-hours", "1").status == 0  # known by now


# What a version means


def means(manage: Manage, *arguments: str) -> str:
    done = manage("set_policy", *arguments)
    assert done.status == 0, done.err
    return done.out.strip()


def test_a_scheduled_policy_says_that_it_is_rehearsed_first(known: Run, manage: Manage) -> None:
    said = means(
        manage, "--equipment", "CONFOCAL_01", "--run-kind", "test", "--mode", "scheduled", "--retain-hours", "6"
    )
    assert said == (
        "policy version 1: CONFOCAL_01, test runs: scheduled, kept 6 h after verification, proven by checksum; "
        "rehearsed first for 3 nights"
    )


def test_a_manual_policy_says_who_clears(manage: Manage) -> None:
    said = means(manage, "--mode", "manual")
    assert said == "policy version 1: the whole lab: manual, cleared by an operator alone, proven by checksum"


def test_what_wider_scopes_say_is_part_of_the_meaning(known: Run, manage: Manage) -> None:
    means(manage, "--mode", "scheduled", "--proof", "record", "--no-rehearsal")
    said = means(manage, "--project", "PROJ-0042", "--retain-hours", "14d", "--no-rehearsal")
    assert said == (
        "policy version 2: PROJ-0042: scheduled, kept 14 days after verification, proven by record; "
        "in force, never rehearsed"
    )


def test_a_version_that_waits_for_another_ones_rehearsal_says_so(known: Run, manage: Manage) -> None:
    means(manage, "--mode", "scheduled")
    said = means(manage, "--project", "PROJ-0042", "--retain-hours", "14d", "--no-rehearsal")
    assert said.endswith("still rehearsed with version 1")


def test_the_limits_are_said(manage: Manage, root: StagingRoot) -> None:
    said = means(
        manage,
        *("--root", "lab", "--mode", "scheduled", "--retain-hours", "168", "--min-retain-hours", "24"),
        *("--max-bytes", "1.5TB", "--max-runs", "1000", "--free-start", "100GB", "--free-stop", "250GB"),
        *("--budget-runs", "20", "--budget-minutes", "90", "--max-share", "50%", "--rehearsal-nights", "0"),
    )
    assert said == (
        "policy version 1: staging root lab: scheduled, kept 7 days after verification "
        "(24 h where the disk is too full), proven by checksum; rehearsed until a person promotes it; "
        "too full above 1.5 TB; too full above 1,000 runs; too full below 100 GB free, until 250 GB are free; "
        "a pass takes at most 20 runs, 90 min; "
        "passes that would take more than 50 % of the staged bytes in a day stop and ask"
    )


# Rehearsal


def stage(manage: Manage, *arguments: str) -> str:
    done = manage("set_policy", *arguments, "--json")
    assert done.status == 0, done.err
    return str(done.json["rehearsal"])


def test_rehearsal_is_the_rule_and_can_be_turned_off_and_on(manage: Manage) -> None:
    assert stage(manage, "--mode", "scheduled") == "rehearsing"
    assert stage(manage, "--no-rehearsal") == "off"
    assert stage(manage, "--retain-hours", "0", "--at-once") == "off"
    assert stage(manage, "--rehearsal") == "rehearsing"
    assert stage(manage, "--retain-hours", "1") == "rehearsing"


def test_after_a_promotion_only_what_takes_more_is_rehearsed_again(manage: Manage) -> None:
    stage(manage, "--mode", "scheduled", "--retain-hours", "24")
    assert manage("promote", "--json").json["rehearsal"] == "promoted"
    assert stage(manage, "--retain-hours", "48") == "promoted"
    assert stage(manage, "--stalled-after", "6") == "promoted"
    assert stage(manage, "--retain-hours", "47") == "rehearsing"


def test_promote_and_back_and_twice_is_harmless(known: Run, manage: Manage) -> None:
    manage("set_policy", "--equipment", "CONFOCAL_01", "--mode", "scheduled")
    promoted = manage("promote", "--equipment", "CONFOCAL_01", "--note", "looks right")
    assert promoted.status == 0
    assert "policy version 2: CONFOCAL_01: scheduled" in promoted.out
    assert "would have cleared 0 runs" in promoted.out
    again = manage("promote", "--equipment", "CONFOCAL_01", "--json")
    assert (again.status, again.json["version"], again.json["note"]) == (0, 2, "looks right")
    back = manage("promote", "--equipment", "CONFOCAL_01", "--back", "--json")
    assert (back.status, back.json["version"], back.json["rehearsal"]) == (0, 3, "rehearsing")
    assert manage("promote", "--equipment", "CONFOCAL_01", "--back").out.startswith("nothing to do")
    assert RetentionPolicy.objects.count() == 3


def test_a_policy_that_was_never_rehearsed_has_nothing_to_promote_and_can_be_rehearsed(manage: Manage) -> None:
    manage("set_policy", "--mode", "scheduled", "--no-rehearsal")
    assert manage("promote").out.startswith("nothing to do: policy version 1 is in force and was never rehearsed")
    assert manage("promote", "--back", "--json").json["rehearsal"] == "rehearsing"


def test_promote_names_a_scope_without_a_policy(manage: Manage, root: StagingRoot) -> None:
    done = manage("promote", "--root", "lab", "--run-kind", "test")
    assert (done.status, done.err) == (2, "No policy is set for test runs, staging root lab.")
    assert manage("promote", "--root", "lap").status == 2


# What applies


def test_shows_which_version_decided_what_of_a_run(known: Run, manage: Manage) -> None:
    manage("set_policy", "--mode", "scheduled", "--no-rehearsal")
    manage("set_policy", "--equipment", "CONFOCAL_01", "--retain-hours", "6", "--stalled-after", "12")
    answer = manage("show_policy", RUN_PATH, "--json").json
    everywhere = dict.fromkeys(("root", "equipment", "project", "run_kind"))
    assert answer == {
        "root": "lab",
        "run_path": RUN_PATH,
        "fields": {
            "mode": {"value": "scheduled", "version": 1},
            "retain_hours": {"value": 6, "version": 2},
            "proof": {"value": "checksum", "version": None},
            "only_here": {"value": "tell", "version": None},
            "min_retain_hours": {"value": 6, "version": None},
            "stalled_after_hours": {"value": 12, "version": 2},
        },
        "rehearsing": [2],
        "meanwhile": {
            "mode": {"value": "scheduled", "version": 1, "scope": everywhere},
            "retain_hours": {"value": 168, "version": None, "scope": None},
            "proof": {"value": "checksum", "version": None, "scope": None},
        },
    }
    text = manage("show_policy", RUN_PATH).out
    assert "rehearsed with version 2: until it is promoted the run is kept 7 days" in text
    assert "version 2, CONFOCAL_01" in text
    assert manage("show_policy", "CONFOCAL_01/nothing").status == 2


def test_shows_what_is_in_force(known: Run, manage: Manage) -> None:
    assert manage("show_policy").out == "No policy has been set: every run is kept.\n"
    for hours in ("24", "48"):
        manage("set_policy", "--mode", "scheduled", "--retain-hours", hours)
    manage("set_policy", "--root", "lab", "--budget-runs", "5")
    (lab_wide, of_root) = manage("show_policy", "--json").json["policies"]
    assert (lab_wide["version"], lab_wide["retain_hours"], lab_wide["nights"]) == (2, 48, 0)
    assert (of_root["version"], of_root["root"], of_root["nights"]) == (3, "lab", None)
    assert "rehearsed first for 3 nights (0 of 3 so far)" in manage("show_policy", "--root", "lab").out


def test_the_schedule_keeps_by_a_new_policy_until_it_is_promoted(known: Run, manage: Manage, now: datetime) -> None:
    manage("set_policy", "--mode", "scheduled", "--retain-hours", "1")
    effective = RetentionPolicy.objects.effective_for
    assert effective(known).rehearsing == (1,)
    manage("promote")
    assert effective(known).rehearsing == ()
    assert known.verified_at is not None
    assert known.verified_at < now - timedelta(hours=1)


def test_keeping_nothing_back_is_asked_about(manage: Manage, known: Run) -> None:
    """0 h in scheduled mode asks first and shows what it would take."""
    for hours in ("0", "0h", "0.0d"):
        done = manage("set_policy", "--mode", "scheduled", "--retain-hours", hours)
        assert done.status == 2
        assert "0 h: a run goes at once, as soon as verified; now that would be 1 run, " in done.err
        assert "--at-once" in done.err
    assert not RetentionPolicy.objects.exists()
    assert manage("set_policy", "--retain-hours", "0").status == 0  # nothing goes by itself
    assert manage("set_policy", "--mode", "scheduled").status == 2  # now it would
    done = manage("set_policy", "--mode", "scheduled", "--at-once")
    assert (done.status, "scheduled, cleared at once, as soon as verified, proven by" in done.out) == (0, True)
    assert "retain hours         at once, as soon as verified" in manage("show_policy", known.run_path).out
    assert manage("set_policy", "--max-share", "40%").status == 0  # which changes nothing of that


def test_a_floor_of_nothing_is_asked_about_too(manage: Manage, known: Run) -> None:
    done = manage("set_policy", "--mode", "scheduled", "--retain-hours", "2d", "--min-retain-hours", "0")
    assert (done.status, RetentionPolicy.objects.count()) == (2, 0)


def test_a_narrower_schedule_that_takes_its_hours_from_here_counts(manage: Manage, known: Run) -> None:
    assert manage("set_policy", "--equipment", known.equipment, "--mode", "scheduled").status == 0
    assert manage("set_policy", "--retain-hours", "0").status == 2
    assert manage("set_policy", "--project", known.project, "--retain-hours", "0").status == 2
    assert manage("set_policy", "--equipment", "ANOTHER", "--new", "--retain-hours", "0").status == 0
