"""What a way out is: one button on a run's page, one question on a page of its own, one deed with a reason given."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth.models import User

from cleanup.lab.opening import Unreachable
from cleanup.models import Run
from cleanup.rules.decisions import Decision
from cleanup.rules.facts import Facts
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import run_paths


class NotDone(Exception):
    """A way out could not be taken, and nothing was changed; `said` tells the person why."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class ReasonForm(forms.Form):
    """Why a person does it; the ledger keeps it."""

    note = forms.CharField(
        label="Reason", max_length=500, strip=True, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="way-%s", label_suffix="")


class NoReasonForm(forms.Form):
    """For what changes nothing, and so needs no reason."""


@dataclass(frozen=True)
class Scene:
    """What a way out is about: a run, how it stands on stored facts (`decision` is None once it is over), and who asks.

    `seen` is what the person's page had shown when the button was pressed; empty for a question.
    """

    run: Run
    facts: Facts
    decision: Decision | None
    user: User
    now: datetime
    seen: str = ""

    @property
    def reasons(self) -> frozenset[Reason]:
        """Every reason for which an operator's click would be refused."""
        if self.decision is None:
            return frozenset()
        return frozenset(result.reason for result in self.decision.refusals(operator=True) if result.reason is not None)


def _nothing_more(_scene: Scene) -> dict[str, Any]:
    return {}


def _always(_scene: Scene) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way out.

    `name` is its part of the address, `label` what the button on the run's page says, `title` and `confirm` what the
    question and its button say. `offered` says whether it helps the run as it stands, `asks` what `template` needs
    beside `scene`, `way` and `form`. `seen` is a digest of what the question shows: a button of an older page asks
    anew instead of acting. `act` does it and returns what is said to the person, or raises NotDone; it is called with
    the form's cleaned data, must act once however often it is called, and writes its own ledger row. `denied` is what a
    person without the right is told.
    """

    name: str
    label: str
    title: str
    confirm: str
    permission: str
    offered: Callable[[Scene], bool]
    act: Callable[[Scene, Mapping[str, Any]], str]
    template: str
    asks: Callable[[Scene], dict[str, Any]] = _nothing_more
    seen: Callable[[Scene], str] = _always
    form: type[forms.Form] = ReasonForm
    denied: str = ""

    @property
    def url_name(self) -> str:
        return f"way-{self.name}"


def look_at_once(scene: Scene, path: str = "") -> None:
    """Look at the run, or at the run path that is given, so that the page shows at once how it stands now.

    Where the disk cannot be reached discovery does so later.
    """
    with contextlib.suppress(Unreachable):
        discovery.look_at_path(scene.run.root, run_paths.parse_run_path(path or scene.run.run_path), now=scene.now)
