"""A way out: a button on a run's page, a question on its own page, an act with a reason."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth.models import User

from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run
from cleanup.rules import short_texts
from cleanup.rules.decisions import Decision
from cleanup.rules.facts import Facts
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import run_paths


class NotDone(Exception):
    """Nothing was changed; `said` tells why."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class ReasonForm(forms.Form):
    note = forms.CharField(
        label="Reason",
        max_length=short_texts.MAX_REASON,
        strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="way-%s", label_suffix="")


class NoReasonForm(forms.Form):
    """For an act that changes nothing."""


@dataclass(frozen=True)
class Scene:
    """A run on stored facts, and the user; `decision` is None once the run is over, `seen` is what the
    page had shown.
    """

    run: Run
    facts: Facts
    decision: Decision | None
    user: User
    now: datetime
    seen: str = ""

    @property
    def reasons(self) -> frozenset[Reason]:
        if self.decision is None:
            return frozenset()
        return frozenset(result.reason for result in self.decision.refusals(operator=True) if result.reason is not None)


def _nothing_more(_scene: Scene) -> dict[str, Any]:
    return {}


def _always(_scene: Scene) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way out, a button with `label` on a run's page.

    `title` and `confirm` stand in its question, whose `template` also gets `asks`. `offered`: whether it helps the run
    now. `seen`: a digest of the question, so that a button of an older page asks again. `act` writes its own ledger row
    and returns the message, or raises NotDone; a second call is harmless. `denied`: for users without the permission.
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
    """Look at the run, or at a path, now; if the disk is unreachable, discovery looks later."""
    with contextlib.suppress(Unreachable):
        discovery.look_at_path(scene.run.root, run_paths.parse_run_path(path or scene.run.run_path), now=scene.now)
