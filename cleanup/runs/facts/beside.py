"""What few runs have beside their files: accepted bytes, a difference, a proof by bytes, or a shared twin."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Exists, QuerySet

from cleanup.lab.nas import shared_twins
from cleanup.models import AcceptedBytes, Difference, Proof, Run
from cleanup.rules.policies.policy import ProofLevel


@dataclass(frozen=True)
class Beside:
    """Whether there is an acceptance of a run's bytes, a difference, a proof by bytes, or another run with its twin."""

    accepted: bool
    different: bool
    proven: bool
    shared: bool


def ask(run: Run) -> Beside:
    """Return it in one query: nearly every run has none of them."""
    asked = Run.objects.filter(pk=run.pk).values_list(
        Exists(AcceptedBytes.objects.standing().filter(run=run)),
        Exists(Difference.objects.filter(run=run)),
        Exists(_whole_proofs().filter(run=run)),
        Exists(shared_twins.sharing(run)),
    )
    return Beside(*(asked.first() or (True, True, True, True)))  # without a row each is asked by itself


def ask_of_all(runs: Sequence[Run]) -> dict[int, Beside]:
    """Return it for some hundred runs in four queries, by their keys."""
    accepted = set(AcceptedBytes.objects.standing().filter(run__in=runs).values_list("run", flat=True))
    different = set(Difference.objects.filter(run__in=runs).values_list("run", flat=True))
    proven = set(_whole_proofs().filter(run__in=runs).values_list("run", flat=True))
    shared = shared_twins.with_shared(runs)
    keys = [run.pk for run in runs]
    return {key: Beside(key in accepted, key in different, key in proven, key in shared) for key in keys}


def _whole_proofs() -> QuerySet[Proof]:
    return Proof.objects.filter(level=ProofLevel.CHECKSUM)
