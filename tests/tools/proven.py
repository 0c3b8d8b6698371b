"""Runs whose bytes were compared ahead of their clear."""

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cleanup.models import Proof, Run


def prove(run: "Run", now: datetime) -> "Proof":
    """Compare every byte of a run with its copy now, and keep the proof as a clear does."""
    from cleanup.lab.roots import opening
    from cleanup.models import RetentionPolicy
    from cleanup.rules.policies.policy import ProofLevel
    from cleanup.runs.facts import inspection
    from cleanup.runs.proofs import proofs

    policy = RetentionPolicy.objects.effective_for(run)
    with opening.reached(run) as (opened, reader):
        look, _decision = inspection.look(run, opened, reader, policy, now, operator=True)
    assert look.facts.fresh and look.facts.proof is not None and look.evidence, look.facts
    assert look.facts.proof.level is ProofLevel.CHECKSUM and not look.facts.proof.findings
    return proofs.keep(run, look.facts.proof, ProofLevel.CHECKSUM, look.evidence, now)
