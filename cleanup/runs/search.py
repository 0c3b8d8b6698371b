"""Runs by words of their path or of their project's title, without regard to case, the same on every database."""

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Q, Value

from cleanup.models import Instrument, Project, RunQuerySet, RunWord
from cleanup.models.base import RunKind
from cleanup.models.search_words import WordKind, days, times

# More days or times than these are no help.
_MOST_TEXTS = 3_000
# At most this many runs that may have all words are looked at; SQLite takes as many keys in one query.
_LOOKED_AT = 30_000
# What stands in every path, and in those of test runs.
_IN_ALL, _IN_TESTS = "run_", ("testrun_", "testruns")


@dataclass(frozen=True)
class Parts:
    """Runs that have a word, and perhaps others: by columns of their own, and by their search words.

    Of search words in one group each run has one of each, so the smallest will do.
    """

    named: tuple[Q, ...]
    kept: tuple[tuple[Q, ...], ...]


@dataclass(frozen=True)
class FoundRuns:
    """The keys of all runs found; None if there is no quick way to them, or (`over`) if they are too many."""

    keys: list[int] | None
    over: bool = False


@dataclass(frozen=True)
class SearchedNames:
    """Names of instruments and codes of projects; `titles` by code, with their case folded."""

    instruments: list[str]
    titles: dict[str, str]


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
        return Q(run_path__icontains=self.text) | self.asked


def read_names() -> SearchedNames:
    """One short query."""
    instruments = Instrument.objects.order_by().values_list("equipment", Value(""), Value(0))
    found = list(instruments.union(Project.objects.order_by().values_list("code", "title", Value(1))))
    return SearchedNames(
        [name for name, _title, of in found if not of], {code: title.casefold() for code, title, of in found if of}
    )


def words_of(text: str, names: SearchedNames, most: int) -> list[Word]:
    """The first `most` different words, those that fewest runs have first."""
    folded = list(dict.fromkeys(text.casefold().split()))[:most]
    return [_word(word, names) for word in sorted(folded, key=len, reverse=True)]


def find(runs: RunQuerySet, words: Sequence[Word], names: SearchedNames, limit: int) -> FoundRuns:
    """The runs with all words, asked for by one word and looked at for the others; at most `limit`."""
    texts = [word.text for word in words]
    quick = [word.parts for word in words if word.parts is not None]
    for parts in quick:
        rows = _collect(runs, parts)
        if rows is not None:
            keys = [key for key, path, project in rows if _has_all(texts, path, names.titles.get(project, ""))]
            return FoundRuns(keys) if len(keys) <= limit else FoundRuns(None, over=True)
    return FoundRuns(None)


def _has_all(texts: Iterable[str], path: str, title: str) -> bool:
    folded = path.casefold()
    return all(text in folded or text in title for text in texts)


def _collect(runs: RunQuerySet, parts: Parts) -> list[tuple[int, str, str]] | None:
    """(key, path, project) of the runs in any part; None if they are too many to look at."""
    found: dict[int, tuple[int, str, str]] = {}
    keys = [key for group in parts.kept if (key := _keys(group)) is not None]
    if len(keys) < len(parts.kept) or sum(map(len, keys)) > _LOOKED_AT:
        return None
    some = [Q(pk__in=sorted(frozenset().union(*keys)))] if any(keys) else []
    named = functools.reduce(operator.or_, parts.named) if parts.named else None
    for condition in [*some, *([named] if named is not None else [])]:
        rows = runs.filter(condition).order_by().values_list("pk", "run_path", "project")[: _LOOKED_AT + 1]
        found |= {row[0]: row for row in rows}
        if len(found) > _LOOKED_AT:
            return None
    return list(found.values())


def _keys(group: tuple[Q, ...]) -> frozenset[int] | None:
    """The runs of the first condition that few have; asked alone: with the runs no database sees where to begin."""
    for condition in group:
        keys = list(RunWord.objects.filter(condition).order_by().values_list("run", flat=True)[: _LOOKED_AT + 1])
        if len(keys) <= _LOOKED_AT:
            return frozenset(keys)
    return None


def _word(text: str, names: SearchedNames) -> Word:
    instruments = [name for name in names.instruments if text in name.casefold()]
    codes = [code for code, title in names.titles.items() if text in title or text in code.casefold()]
    asked = Q(pk__in=[])
    if instruments:
        asked |= Q(equipment__in=instruments)
    if codes:
        asked |= Q(project__in=codes)
    columns = (("equipment__in", instruments), ("project__in", codes))
    named = tuple(Q(**{column: some}) for column, some in columns if some)
    parts = _of_steps(text, names) if "/" in text else _of_name(text)
    return Word(text, asked, None if parts is None else Parts((*named, *parts.named), parts.kept))


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
