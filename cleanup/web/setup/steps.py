"""The steps from an empty installation to a lab that works, each with its state."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.contrib.auth.models import User
from django.urls import reverse

from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.monitoring.surroundings import Surroundings
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Scope
from cleanup.rules.policies.sentences import describe
from cleanup.text import first_looks
from cleanup.text.values import runs, visible

# More runs than these are not counted.
MOST_COUNTED = 10_000
# More roots than these are not told one by one.
MOST_TOLD = 6
WHOLE_LAB = Scope()
MANUAL = "Manual: a run is removed only when an operator presses “Clear”, after every byte was compared with the NAS."


class StepState(enum.StrEnum):
    """How far a step is: `works` ends by itself, `waits` for an earlier one."""

    DONE = "done"
    OPEN = "open"
    WORKS = "works"
    WAITS = "waits"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the guided page. `says`: how it stands, in sentences; `is_next`: its button is the primary one."""

    code: str
    title: str
    state: StepState
    says: Sequence[str]
    label: str = ""
    way: str = ""
    more: str = ""
    other: str = ""
    is_next: bool = False

    @property
    def is_done(self) -> bool:
        return self.state is StepState.DONE


def steps(user: User, around: Surroundings, now: datetime) -> list[Step]:
    """All steps in their order; the first that is open is the next."""
    roots = around.roots
    found = [_roots(roots), _nas(roots), _first_look(roots, now), _policy(), _people(user)]
    following = next((step.code for step in found if step.state is StepState.OPEN), "")
    return [step if step.code != following else _as_next(step) for step in found]


def is_looking(roots: Sequence[StagingRoot]) -> bool:
    """Whether a first look is still to come or under way: the page polls."""
    return any(root.discovered_at is None for root in roots)


def _as_next(step: Step) -> Step:
    return replace(step, is_next=True)


def _roots(roots: Sequence[StagingRoot]) -> Step:
    says = [f"{visible(root.name)} on {visible(root.host)}: {visible(root.path)}" for root in roots[:MOST_TOLD]]
    if len(roots) > MOST_TOLD:
        says.append(f"And {len(roots) - MOST_TOLD} more.")
    return Step(
        code="root",
        title="Staging root",
        state=StepState.DONE if roots else StepState.OPEN,
        says=says or ["The folder on a lab PC in which the instruments write. The worker of that PC looks at it."],
        label="Add another…" if roots else "Add a staging root…",
        way=reverse("add-root"),
        more="" if roots else "Take it from ExLab-Wizard's configuration…",
        other="" if roots else reverse("import-wizard-config"),
    )


def _nas(roots: Sequence[StagingRoot]) -> Step:
    without = [root for root in roots if not (root.nas_path or root.instrument_nas)]
    says = [_say_nas(root) for root in roots[:MOST_TOLD] if root not in without]
    says += [f"{visible(root.name)} has no NAS root yet." for root in without[:MOST_TOLD]]
    told = ["The folder that holds the copies. A run is removed only if its copy there is proven."]
    state = StepState.WAITS if not roots else StepState.OPEN if without else StepState.DONE
    return Step(
        code="nas",
        title="NAS root and layout",
        state=state,
        says=[*says, *(told if state is not StepState.DONE else ())],
        label="Add a NAS root…" if without else "Staging roots…",
        way=reverse("add-nas-root" if without else "root-list") if roots else "",
    )


def _say_nas(root: StagingRoot) -> str:
    own = f", and {len(root.instrument_nas)} of single instruments" if root.instrument_nas else ""
    said = f"{visible(root.name)}: {visible(root.nas_path) or 'none for all'}{own}, copies under {root.nas_layout}."
    proposal = root.layout_proposal
    if not proposal:
        return said
    found = f"{proposal['found']} of {proposal['of']} verified runs have a copy under {proposal['layout']}."
    return f"{said} {found}"


def _first_look(roots: Sequence[StagingRoot], now: datetime) -> Step:
    waiting = [root for root in roots if root.discovered_at is None]
    says = [first_looks.say_first_look(root, now) for root in waiting[:MOST_TOLD]]
    if roots and len(waiting) < len(roots):
        says.append(_say_found())
    state = StepState.WAITS if not roots else StepState.WORKS if waiting else StepState.DONE
    return Step(
        code="look",
        title="First look",
        state=state,
        says=says or ["The worker reads what is on the disk, and changes nothing. That begins by itself."],
    )


def _say_found() -> str:
    number = Run.objects.staged().order_by()[: MOST_COUNTED + 1].count()
    return f"{'More than ' if number > MOST_COUNTED else ''}{runs(min(number, MOST_COUNTED))} found so far."


def _policy() -> Step:
    versions = RetentionPolicy.objects.in_force()
    whole = next((version for version in versions if version.scope == WHOLE_LAB), None)
    says = [_say_policy(whole) if whole else MANUAL]
    if versions and not whole:
        says.append("Some instruments or projects have a policy of their own.")
    return Step(
        code="policy",
        title="Policy",
        state=StepState.DONE if versions else StepState.OPEN,
        says=says,
        label="Policies…" if versions else "",
        way=reverse("policy-list") if versions else "",
        more="" if versions else "Choose automatic clearing…",
        other="" if versions else reverse("change-policy"),
    )


def _say_policy(whole: RetentionPolicy) -> str:
    meant = effective_policy(RetentionPolicy.objects.scoped(), whole.scope)
    sentence = describe(whole.as_value(), meant, nights=whole.rehearsal_nights)
    return visible(f"{sentence[:1].upper()}{sentence[1:]}.")


def _people(user: User) -> Step:
    others = User.objects.filter(is_active=True).exclude(pk=user.pk).count()
    return Step(
        code="people",
        title="People",
        state=StepState.DONE if others else StepState.OPEN,
        says=[f"{others} other account{'' if others == 1 else 's'} can sign in."]
        if others
        else ["Only you can sign in. Operators clear and hold runs, viewers see why they stay."],
        label="People…" if others else "Add a person…",
        way=reverse("people" if others else "add-person"),
    )
