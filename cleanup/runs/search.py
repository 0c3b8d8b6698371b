"""Runs by words of their path or of their project's title, without regard to case, the same on every database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, Value

from cleanup.models import Instrument, Project, Run, RunQuerySet
from cleanup.models.base import RunKind
from cleanup.models.search_words import WordKind, days, times

# More days or times than these are no help.
_MOST_TEXTS = 3_000
# What stands in every path, and in those of test runs.
_IN_ALL, _IN_TESTS = "run_", ("testrun_", "testruns")


# Conditions; what fulfils all of a part is in it.
Parts = tuple[tuple[Q, ...], ...]


@dataclass(frozen=True)
class FoundRuns:
    """The keys of all runs found; None if there is no quick way to them, or (`over`) if they are too many."""

    keys: list[int] | None
    over: bool = False


@dataclass(frozen=True)
class NamedCodes:
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


def read_names() -> NamedCodes:
    """One short query."""
    instruments = Instrument.objects.order_by().values_list("equipment", Value(""), Value(0))
    found = list(instruments.union(Project.objects.order_by().values_list("code", "title", Value(1))))
    return NamedCodes(
        [name for name, _title, of in found if not of], {code: title.casefold() for code, title, of in found if of}
    )


def words_of(text: str, names: NamedCodes, most: int) -> list[Word]:
    """The first `most` different words, those that fewest runs have first."""
    folded = list(dict.fromkeys(text.casefold().split()))[:most]
    return [_word(word, names) for word in sorted(folded, key=len, reverse=True)]


def find(runs: RunQuerySet, words: Sequence[Word], names: NamedCodes, limit: int) -> FoundRuns:
    """The runs with all words, asked for by the word that fewest have, then by two words together."""
    texts = [word.text for word in words]
    quick = [word.parts for word in words if word.parts is not None]
    together = [tuple((*one, *other) for one in quick[0] for other in quick[1])] if len(quick) > 1 else []
    for parts in [*quick, *together]:
        rows = _collect(runs, parts, limit)
        if rows is not None:
            keys = [key for key, path, project in rows if _has_all(texts, path, names.titles.get(project, ""))]
            return FoundRuns(keys)
    return FoundRuns(None, over=bool(quick))


def _has_all(texts: Iterable[str], path: str, title: str) -> bool:
    folded = path.casefold()
    return all(text in folded or text in title for text in texts)


def _collect(runs: RunQuerySet, parts: Parts, limit: int) -> list[tuple[int, str, str]] | None:
    if not parts:
        return []
    first, *others = (_of_part(runs, part, limit) for part in parts)
    found = list(first.union(*others)[: limit + 1])
    return found if len(found) <= limit else None


def _of_part(runs: RunQuerySet, part: tuple[Q, ...], limit: int) -> Any:  # noqa: ANN401
    for condition in part:  # each with a join of its own
        runs = runs.filter(condition)
    keys = runs.order_by().values("pk")[: limit + 1]
    return Run.objects.filter(pk__in=keys).order_by().values_list("pk", "run_path", "project")


def _word(text: str, names: NamedCodes) -> Word:
    instruments = [name for name in names.instruments if text in name.casefold()]
    codes = [code for code, title in names.titles.items() if text in title or text in code.casefold()]
    asked = Q(pk__in=[])
    if instruments:
        asked |= Q(equipment__in=instruments)
    if codes:
        asked |= Q(project__in=codes)
    named = tuple((Q(**{column: some}),) for column, some in _in((instruments, codes)) if some)
    parts = _of_steps(text, names) if "/" in text else _of_name(text)
    return Word(text, asked, None if parts is None else (*named, *parts))


def _in(found: tuple[list[str], list[str]]) -> list[tuple[str, list[str]]]:
    return list(zip(("equipment__in", "project__in"), found, strict=True))


def _of_steps(text: str, names: NamedCodes) -> Parts | None:
    """By its longest step: each step of the word is in a step of the path."""
    for step in sorted(filter(None, text.split("/")), key=len, reverse=True):
        if (parts := _word(step, names).parts) is not None:
            return parts
    return None


def _of_name(text: str) -> Parts | None:
    """By the last step of the path, and by the folder of its kind."""
    if text in _IN_ALL or text in "runs":
        return None
    parts: list[tuple[Q, ...]] = []
    if any(text in name for name in _IN_TESTS):
        parts.append((Q(run_kind=RunKind.TEST),))
    on_days = [day for day in days() if text in f"testrun_{day}t"]
    at_times = [time for time in times() if text in f"t{time}"]
    pairs = [(WordKind.DAY, on_days), (WordKind.TIME, at_times)]
    if any(len(texts) > _MOST_TEXTS for _kind, texts in pairs):
        return None
    parts += [(_is(kind, texts),) for kind, texts in pairs if texts]
    parts += _across(text)
    parts.append((Q(search_words__kind=WordKind.OTHER, search_words__text__contains=text),))
    return tuple(parts)


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
    return Q(search_words__kind=kind, search_words__text__in=texts)
