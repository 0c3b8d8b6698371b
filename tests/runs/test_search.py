"""The search for runs finds each word anywhere, without regard to case, and as quickly among very many."""

import random
from datetime import datetime
from importlib import import_module
from typing import Any

import pytest

from cleanup.models import Instrument, Project, Run, RunWord, StagingRoot
from cleanup.models.search_words import days, times, words_of
from cleanup.rules.folded_text import fold_for_search
from cleanup.runs import discovery, run_people, search
from tests.tools.lab import Lab
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db

PATHS = {
    "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32": "Immune panel",
    "CONFOCAL_01/PROJ-0042/TestRuns/TestRun_2026-04-17T09-12-05": "Immune panel",
    "FLOW_01/PROJ-0417/Runs/Run_2026-03-11T14-17": "Äpfel und Straße",
    "Ölbad_2/straße/Runs/Run_ÜBUNG 7": "DOSE 100%",
    "FLOW_01/PROJ-0042/Run_2026-13-40T27-99": "Immune panel",
    "Éclair/ΣΊΣΥΦΟΣ/TestRuns/TestRun_2099-12-31T23-59-59": "",
    "100%/a_b/Runs/Run_1999-01-02T00-00": "_",
}
PEOPLE = {
    "FLOW_01/PROJ-0417/Runs/Run_2026-03-11T14-17": ["jbecker", "Jürgen Weiß"],
    "FLOW_01/PROJ-0042/Run_2026-13-40T27-99": ["İpek \u0131lgaz", "jbecker"],
    "100%/a_b/Runs/Run_1999-01-02T00-00": ["Jose\u0301"],
}
NAMED = ["17t14", "04-17", "proj-0042/runs", "/", "run_2026", "runs", "t", "s/run_", "32", "STRASSE", "ὀ", "flow run"]
NAMED += [
    "42/TESTRUNS/testrun_2026-04",
    "übung 7 öl",
    "immune 14-32",
    "%",
    "_",
    "σίσυφος",
    "7T0",
    "-",
    "100% dose",
    "r u n",
    "jbecker",
    "WEISS jürgen",
    "ipek ILGAZ",
    "i\u0307pek",
    "jOSÉ",
    "sose",
    "jbecker immune",
]


@pytest.fixture
def lab_rows(now: datetime) -> list[Run]:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent/lab")
    runs = []
    for path, title in PATHS.items():
        runs.append(run_row(root, path, first_seen_at=now, identity=path, people=PEOPLE.get(path)))
        Instrument.objects.get_or_create(root=root, equipment=runs[-1].equipment)
        Project.objects.update_or_create(code=runs[-1].project, defaults={"title": title})
    run_people.add(runs)
    return runs


def plainly(text: str) -> set[str]:
    titles = dict(Project.objects.values_list("code", "title"))
    return {
        run.run_path
        for run in Run.objects.all()
        if all(
            any(word in fold_for_search(each) for each in (run.run_path, titles[run.project], *(run.people or ())))
            for word in fold_for_search(text).split()
        )
    }


def quickly(text: str, limit: int) -> set[str] | None:
    names = search.read_names()
    found = search.find(Run.objects.all(), search.words_of(text, names, 6), names, limit)
    return None if found.keys is None else set(Run.objects.filter(pk__in=found.keys).values_list("run_path", flat=True))


def some_texts() -> list[str]:
    chosen = random.Random(15)  # the same each time
    texts = []
    for _each in range(150):
        words = []
        for _word in range(chosen.randint(1, 2)):
            text = chosen.choice([*PATHS, *PATHS.values()]) or "x"
            start = chosen.randrange(len(text))
            words.append(text[start : start + chosen.randint(1, 12)].swapcase())
        texts.append(" ".join(words))
    return texts


def test_it_finds_what_a_plain_look_finds(lab_rows: list[Run]) -> None:
    """Takes 1 s."""
    quick = 0
    for text in [*NAMED, *some_texts()]:
        found = quickly(text, 100)
        quick += found is not None
        assert found in (None, plainly(text)), text
    assert quick > 120, "few words have no quick way"


def test_each_run_is_looked_at_alike_where_no_way_is_quick(lab_rows: list[Run]) -> None:
    """As for words that very many have."""
    names = search.read_names()
    for text in [*NAMED, "weiß", "\u0131lgaz", "ΟΣ", "straße"]:
        some = Run.objects.all()
        for word in search.words_of(text, names, 6):
            some = some.filter(word.anywhere)
        assert set(some.values_list("run_path", flat=True)) == plainly(text), text


def test_too_many_are_said_to_be(lab_rows: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    names = search.read_names()
    words = search.words_of("confocal", names, 6)
    assert search.find(Run.objects.all(), words, names, 1) == search.FoundRuns(None, over=True)
    words = search.words_of("confocal 09-12", names, 6)
    assert search.find(Run.objects.all(), words, names, 1).keys == [lab_rows[1].pk]
    both = search.words_of("confocal 04-17 proj-0042", names, 6)
    assert search.find(Run.objects.all(), both, names, 1).over
    monkeypatch.setattr(search, "_LOOKED_AT", 1)
    assert search.find(Run.objects.all(), words, names, 1).keys == [lab_rows[1].pk], "the rarer word is asked"
    assert search.find(Run.objects.all(), both, names, 1) == search.FoundRuns(None), "all may be few"
    assert search.find(Run.objects.all(), search.words_of("run", names, 6), names, 1) == search.FoundRuns(None)


def test_the_migration_writes_the_same_words(lab_rows: list[Run]) -> None:
    migration: Any = import_module("cleanup.migrations.0032_search_words")
    later: Any = import_module("cleanup.migrations.0039_whose_run")  # folds unusual names further
    odd = ["Run_2026-02-30T10-10", "Run_1969-12-31T00-00", "Run_2100-01-01T00-00", "Run_2026-01-01T24-00", "Run_İ"]
    for leaf in [*(run.leaf for run in lab_rows), *odd]:
        folded = [(kind, later.folded(text)) for kind, text in migration.words_of(leaf)]
        assert folded == [(str(kind), text) for kind, text in words_of(leaf)]
        assert later.folded(leaf) == fold_for_search(leaf)
    assert len(days()) == 130 * 365 + 32
    assert len(times()) == 1440 * 61
    kept = set(RunWord.objects.values_list("run", "kind", "text"))
    RunWord.objects.all().delete()
    from django.apps import apps

    for _twice in range(2):
        migration.fill(apps, None)
        later.fold_words(apps, None)
        assert set(RunWord.objects.values_list("run", "kind", "text")) == kept


def test_runs_that_discovery_finds_together_have_their_words(lab: Lab, root: StagingRoot, now: datetime) -> None:
    for minute in range(3):
        lab.run(f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-{minute:02}")
    discovery.discover(root, now=now)
    kept: dict[Run, set[tuple[str, str]]] = {run: set() for run in Run.objects.all()}
    for word in RunWord.objects.select_related("run"):
        kept[word.run].add((word.kind, word.text))
    assert {run: set(words_of(run.leaf)) for run in kept} == kept
    assert len(kept) == 3 and all(kept.values())
