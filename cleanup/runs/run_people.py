"""The people whom the records of runs name, as rows, so that they can be searched and filtered by."""

from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import Exists, F, OuterRef

from cleanup.models import Person, Run, RunPerson, RunQuerySet, fold_name
from cleanup.rules.folded_text import fold_for_search

# As long as the column.
_LONGEST = 255
# Of at most this many runs the keys go into one query.
_FEW = 5_000

# A run, and whom its record names; None: it was not read.
Told = tuple[Run, tuple[str, ...] | None]


def keep(told: Iterable[Told]) -> None:
    """Write down whom records name, where that is news; runs that another transaction holds wait for the next look."""
    news = {run.pk: (run, list(people)) for run, people in told if people is not None and _is_news(run, people)}
    if not news:
        return
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True, skip_locked=True, of=("self",)).filter(pk__in=news)
        free = [news[key] for key in locked.order_by().values_list("pk", flat=True)]
        RunPerson.objects.filter(run__in=[run.pk for run, _people in free]).delete()
        _write(free)
        for people in {tuple(names) for _run, names in free}:
            keys = [run.pk for run, names in free if tuple(names) == people]
            Run.objects.filter(pk__in=keys).update(people=list(people), doubts=F("doubts") + 1)
    for run, names in free:
        # The look that goes on knows of this change.
        run.people, run.doubts = names, run.doubts + 1


def add(runs: Sequence[Run]) -> None:
    """Write the rows of the people of new runs, in the transaction of theirs."""
    _write([(run, run.people) for run in runs if run.people])


def of_people(runs: RunQuerySet, people: Sequence[int], *, here: bool) -> RunQuerySet:
    """Those of the runs whose records name one of these persons (keys); `here`: the runs are staged ones."""
    named = RunPerson.objects.filter(person__in=people).order_by()
    # The rows of a person with few runs say which; with many, each page soon meets some.
    for some in (named, named.filter(run__here=True)) if here else (named,):
        keys = list(some.values_list("run", flat=True)[: _FEW + 1])
        if len(keys) <= _FEW:
            return runs.filter(pk__in=keys)
    return runs.filter(Exists(named.filter(run=OuterRef("pk"))))


def _is_news(run: Run, people: Sequence[str]) -> bool:
    return list(people) != (run.people or [])


def _write(named: Sequence[tuple[Run, list[str]]]) -> None:
    names = {fold_name(name): name for _run, people in named for name in people}
    if not names:
        return
    keys = _keys(names)
    if missing := names.keys() - keys.keys():
        made = [Person(name=names[one], folded=one, searched=_searched(names[one])) for one in sorted(missing)]
        Person.objects.bulk_create(made, ignore_conflicts=True)
        keys |= _keys(missing)
    pairs = {(run.pk, keys[fold_name(name)]): None for run, people in named for name in people}
    RunPerson.objects.bulk_create([RunPerson(run_id=run, person_id=person) for run, person in pairs])


def _keys(names: Iterable[str]) -> dict[str, int]:
    return dict(Person.objects.filter(folded__in=list(names)).order_by().values_list("folded", "pk"))


def _searched(name: str) -> str:
    return fold_for_search(name)[:_LONGEST]
