"""Runs by words of their path, of their project's title or of their people, the same on every database.

Case does not count, nor how a letter is written (`rules.folded_text`).
"""

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import CharField, Exists, OuterRef, Q, Value
from django.db.models.functions import Cast

from cleanup.models import Instrument, Person, Project, RunPerson, RunQuerySet, RunWord
from cleanup.models.base import RunKind
from cleanup.models.search_words import WordKind, days, times
from cleanup.rules.folded_text import fold_for_search

# More days or times than these are no help.
_MOST_TEXTS = 3_000
# At most this many runs that may have all words are looked at; SQLite takes as many keys in one query.
_LOOKED_AT = 30_000
# What stands in every path, and in those of test runs.
_IN_ALL, _IN_TESTS = "run_", ("testrun_", "testruns")


@dataclass(frozen=True)
class Parts:
    """Runs that have a word, and perhaps others: by columns of their own, and by their search words.

    Of search words in one group each run has one of each, so the smallest will do. `people`: keys of persons.
    """

    named: tuple[Q, ...]
    kept: tuple[tuple[Q, ...], ...]
    people: tuple[int, ...] = ()


@dataclass(frozen=True)
class FoundRuns:
    """The keys of all runs found; None if there is no quick way to them, or (`over`) if they are too many."""

    keys: list[int] | None
    over: bool = False


@dataclass(frozen=True)
class SearchedNames:
    """Names of instruments, codes of projects and keys of persons; `titles` by code and `people` are folded."""

    instruments: list[str]
    titles: dict[str, str]
    people: dict[int, str]


@dataclass(frozen=True)
class Word:
    """A searched word: its case is folded, and `asked` has the names in which it stands.

    `parts`: the runs with it and perhaps others, each part quickly found; None: there is no quick way.
    """

    text: str
    asked: Q
    parts: Parts | None

    @property
    def anywhere(self) -> Q:
        """For a look at each run."""
        unusual = RunWord.objects.filter(run=OuterRef("pk"), kind=WordKind.OTHER, text__contains=self.text)
        # Of other letters than these each database knows the case of some.
        in_path = Q(run_path__icontains=self.text) if self.text.isascii() else Q(pk__in=[])
        return in_path | self.asked | Q(Exists(unusual.order_by()))


def read_names() -> SearchedNames:
    """One short query."""
    instruments = Instrument.objects.order_by().values_list("equipment", Value(""), Value(0))
    projects = Project.objects.order_by().values_list("code", "title", Value(1))
    people = Person.objects.order_by().values_list("searched", Cast("pk", CharField()), Value(2))
    found = list(instruments.union(projects, people))
    return SearchedNames(
        [name for name, _title, of in found if of == 0],
        {code: fold_for_search(title) for code, title, of in found if of == 1},
        {int(key): name for name, key, of in found if of == 2},
    )


def words_of(text: str, names: SearchedNames, most: int) -> list[Word]:
    """The first `most` different words, those that fewest runs have first."""
    folded = list(dict.fromkeys(fold_for_search(text).split()))[:most]
    return [_word(word, names) for word in sorted(folded, key=len, reverse=True)]


def find(runs: RunQuerySet, words: Sequence[Word], names: SearchedNames, limit: int) -> FoundRuns:
    """The runs with all words, asked for by one word and looked at for the others; at most `limit`."""
    texts = [word.text for word in words]
    quick = [word.parts for word in words if word.parts is not None]
    for parts in quick:
        rows = _collect(runs, parts)
        if rows is not None:
            keys = [key for key, path, project, people in rows if _has_all(texts, path, project, people, names)]
            return FoundRuns(keys) if len(keys) <= limit else FoundRuns(None, over=True)
    return FoundRuns(None)


def _has_all(texts: Iterable[str], path: str, project: str, people: list[str] | None, names: SearchedNames) -> bool:
    said = (fold_for_search(path), names.titles.get(project, ""), *map(fold_for_search, people or ()))
    return all(any(text in each for each in said) for text in texts)


def _collect(runs: RunQuerySet, parts: Parts) -> list[tuple[int, str, str, list[str] | None]] | None:
    """(key, path, project, people) of the runs in any part; None if they are too many to look at."""
    found: dict[int, tuple[int, str, str, list[str] | None]] = {}
    keys = [key for group in parts.kept if (key := _keys(group)) is not None]
    if len(keys) < len(parts.kept) or sum(map(len, keys)) > _LOOKED_AT:
        return None
    if parts.people:
        keys.append(_of_people(parts.people))
        if len(keys[-1]) > _LOOKED_AT:
            return None
    some = [Q(pk__in=sorted(frozenset().union(*keys)))] if any(keys) else []
    named = functools.reduce(operator.or_, parts.named) if parts.named else None
    for condition in [*some, *([named] if named is not None else [])]:
        rows = runs.filter(condition).order_by().values_list("pk", "run_path", "project", "people")[: _LOOKED_AT + 1]
        found |= {row[0]: row for row in rows}
        if len(found) > _LOOKED_AT:
            return None
    return list(found.values())


def _of_people(people: Sequence[int]) -> frozenset[int]:
    rows = RunPerson.objects.filter(person__in=people).order_by()
    return frozenset(rows.values_list("run", flat=True)[: _LOOKED_AT + 1])


def _keys(group: tuple[Q, ...]) -> frozenset[int] | None:
    """The runs of the first condition that few have; asked alone: with the runs no database sees where to begin."""
    for condition in group:
        keys = list(RunWord.objects.filter(condition).order_by().values_list("run", flat=True)[: _LOOKED_AT + 1])
        if len(keys) <= _LOOKED_AT:
            return frozenset(keys)
    return None


def _word(text: str, names: SearchedNames) -> Word:
    instruments = [name for name in names.instruments if text in fold_for_search(name)]
    codes = [code for code, title in names.titles.items() if text in title or text in fold_for_search(code)]
    people = tuple(key for key, name in names.people.items() if text in name)[:_MOST_TEXTS]
    asked = Q(pk__in=[])
    if people:
        asked |= Q(Exists(RunPerson.objects.filter(run=OuterRef("pk"), person__in=people).order_by()))
    if instruments:
        asked |= Q(equipment__in=instruments)
    if codes:
        asked |= Q(project__in=codes)
    columns = (("equipment__in", instruments), ("project__in", codes))
    named = tuple(Q(**{column: some}) for column, some in columns if some)
    parts = _of_steps(text, names) if "/" in text else _of_name(text)
    found = None if parts is None else Parts((*named, *parts.named), parts.kept, people + parts.people)
    return Word(text, asked, found)


def _of_steps(text: str, names: SearchedNames) -> Parts | None:
    """By its longest step: each step of the word is in a step of the path."""
    for step in sorted(filter(None, text.split("/")), key=len, reverse=True):
        if (parts := _word(step, names).parts) is not None:
            return parts
    return None


def _of_name(text: str) -> Parts | None:
    """By the last step of the path, and by the folder of its kind."""
    if text in _IN_ALL or text in "runs":
        return None
    named = (Q(run_kind=RunKind.TEST),) if any(text in name for name in _IN_TESTS) else ()
    on_days = [day for day in days() if text in f"testrun_{day}t"]
    at_times = [time for time in times() if text in f"t{time}"]
    if max(len(on_days), len(at_times)) > _MOST_TEXTS:
        return None
    any_of = Q(kind=WordKind.OTHER, text__contains=text)
    if on_days:
        any_of |= _is(WordKind.DAY, on_days)
    if at_times:
        any_of |= _is(WordKind.TIME, at_times)
    return Parts(named, ((any_of,), *_across(text)))


def _across(text: str) -> list[tuple[Q, ...]]:
    """The end of a day and the beginning of a time, as in `17t14`."""
    found: list[tuple[Q, ...]] = []
    for position, letter in enumerate(text):
        before, after = text[:position], text[position + 1 :]
        if letter != "t" or not before or not after:
            continue
        on_days = [day for day in days() if f"testrun_{day}".endswith(before)]
        at_times = [time for time in times() if time.startswith(after)]
        if on_days and at_times:
            found.append((_is(WordKind.DAY, on_days), _is(WordKind.TIME, at_times)))
    return found


def _is(kind: WordKind, texts: list[str]) -> Q:
    return Q(kind=kind, text__in=texts)
