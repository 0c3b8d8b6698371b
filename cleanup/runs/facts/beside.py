"""What few runs have beside their files: accepted bytes, a known difference, or another run with their twin."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Exists

from cleanup.lab.nas import shared_twins
from cleanup.models import AcceptedBytes, Difference, Run


@dataclass(frozen=True)
class Beside:
    """Whether there is an acceptance of a run's bytes, a difference of them, or another run with its twin."""

    accepted: bool
    different: bool
    shared: bool


def ask(run: Run) -> Beside:
    """Return it in one query: nearly every run has none of the three."""
    asked = Run.objects.filter(pk=run.pk).values_list(
        Exists(AcceptedBytes.objects.standing().filter(run=run)),
        Exists(Difference.objects.filter(run=run)),
        Exists(shared_twins.sharing(run)),
    )
    return Beside(*(asked.first() or (True, True, True)))  # without a row each is asked by itself


def ask_of_all(runs: Sequence[Run]) -> dict[int, Beside]:
    """Return it for some hundred runs in three queries, by their keys."""
    accepted = set(AcceptedBytes.objects.standing().filter(run__in=runs).values_list("run", flat=True))
    different = set(Difference.objects.filter(run__in=runs).values_list("run", flat=True))
    shared = shared_twins.with_shared(runs)
    return {run.pk: Beside(run.pk in accepted, run.pk in different, run.pk in shared) for run in runs}
