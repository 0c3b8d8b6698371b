"""A way out: one button on a run's page, one question on a page of its own, one act with a reason."""

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
    """What a way out is about: a run, how it stands on stored facts, and the user.

    `decision` is None once the run is over. `seen` is what the page had shown; empty for a question.
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
    """One way out: a button on a run's page.

    `name` is its part of the address, `label` the button's text, `title` and `confirm` those of the question. `offered`
    says whether it helps the run as it stands; `asks` gives what `template` needs beside `scene`, `way` and `form`.
    `seen` is a digest of what the question shows, so that a button of an older page asks anew. `act` does it and
    returns the message, or raises NotDone; twice is harmless, and it writes its own ledger row. `denied` is shown to a
    person without the right.
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
    """Look at the run, or at the given run path, so that the page is up to date.

    If the disk cannot be reached, discovery looks later.
    """
    with contextlib.suppress(Unreachable):
        discovery.look_at_path(scene.run.root, run_paths.parse_run_path(path or scene.run.run_path), now=scene.now)
