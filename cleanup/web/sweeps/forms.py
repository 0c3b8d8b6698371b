"""The forms of the record of sweeps."""

from collections.abc import Iterable
from typing import Any

from django import forms

from cleanup.models import SweepBreaker, SweepKind
from cleanup.text.sweeps import action, because
from cleanup.text.values import count, visible


class Filter(forms.Form):
    """Drops a value that is no choice: every address leads to a page."""

    def __init__(self, data: Any, **choices: Iterable[tuple[str, str]]) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="filter-%s", label_suffix="")
        for name, offered in choices.items():
            label = "Staging root" if name == "root" else None
            self.fields[name] = forms.ChoiceField(label=label, choices=list(offered), required=False)

    def chosen(self) -> dict[str, str]:
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}


def sweeps_filter(data: Any, root_names: Iterable[str]) -> Filter:  # noqa: ANN401
    roots = [("", "All staging roots"), *((name, visible(name)) for name in root_names)]
    return Filter(data, root=roots, kind=[("", "Every kind of pass"), *SweepKind.choices])


def said_filter(data: Any, said: Iterable[tuple[str, str, int]]) -> Filter:  # noqa: ANN401
    """`said`: (action, reason, how often) of the pass. People choose a sentence; addresses keep the reason's code."""
    actions: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for code, reason, number in said:
        actions[code] = actions.get(code, 0) + number
        if reason:
            reasons[reason] = reasons.get(reason, 0) + number
    by_action = [(code, f"{action(code)} ({count(number)})") for code, number in sorted(actions.items())]
    by_sentence = sorted((because(code), code, number) for code, number in reasons.items())
    by_reason = [(code, f"{words} ({count(number)})") for words, code, number in by_sentence]
    return Filter(data, action=[("", "Every action"), *by_action], reason=[("", "Every reason"), *by_reason])


class GoOnForm(forms.Form):
    """`code`: of the question that the operator saw."""

    note = forms.CharField(
        required=False,
        max_length=SweepBreaker._meta.get_field("note").max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    code = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)
