"""The filters of the list of runs."""

from collections.abc import Iterable
from typing import Any

from django import forms

from cleanup.models import RunKind
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.text.values import visible

# A state of our knowledge of a run, not of the run.
UNREADABLE = "unreadable"

STATE_CHOICES = [
    ("", "All staged runs"),
    *((state.value, state.value.replace("_", " ")) for state in State if state is not State.CLEARED),
    (UNREADABLE, "no readable record"),
    (State.CLEARED.value, "cleared"),
]
VERDICT_CHOICES = [
    ("", "Any verdict"),
    ("go", "Safe to clear"),
    ("wait", "Waits"),
    ("block", "Blocked"),
    ("work", "Under way"),
]
SORT_CHOICES = [
    ("", "As they stand"),
    ("size", "Largest first"),
    ("oldest", "Verified first"),
    ("newest", "Verified last"),
    ("name", "By name"),
    ("files", "Most files first"),
]
# Waiting runs that time alone opens within 24 hours.
WITHIN_A_DAY = "day"
# Cleared runs that were freed within seven days, by who asked for it.
BY_SCHEDULE, BY_HAND = "schedule", "hand"
# The runs of the reader, or of a person by the folded name.
MINE, OF = "mine", "of:"
# A longer search is cut.
MAX_SEARCH = 100


class SearchField(forms.CharField):
    def __init__(self) -> None:
        attributes = {"type": "search", "maxlength": MAX_SEARCH, "autocomplete": "off", "spellcheck": "false"}
        super().__init__(label="Search", required=False, widget=forms.TextInput(attrs=attributes))

    def to_python(self, value: Any) -> str:  # noqa: ANN401
        return " ".join(str(super().to_python(value) or "")[:MAX_SEARCH].split())


class FilterForm(forms.Form):
    """Drops a value that is no choice, cuts a long search: every address leads to a page."""

    q = SearchField()
    state = forms.ChoiceField(choices=STATE_CHOICES, required=False)
    verdict = forms.ChoiceField(choices=VERDICT_CHOICES, required=False)
    kind = forms.ChoiceField(choices=[("", "Any kind"), *RunKind.choices], required=False)
    sort = forms.ChoiceField(label="Order", choices=SORT_CHOICES, required=False)
    reason = forms.ChoiceField(
        choices=[("", ""), *((reason.value, reason.value) for reason in Reason)],
        required=False,
        widget=forms.HiddenInput,
    )
    opens = forms.ChoiceField(choices=[("", ""), (WITHIN_A_DAY, "")], required=False, widget=forms.HiddenInput)
    freed = forms.ChoiceField(
        choices=[("", ""), (BY_SCHEDULE, ""), (BY_HAND, "")], required=False, widget=forms.HiddenInput
    )

    def __init__(
        self,
        data: Any,  # noqa: ANN401
        *,
        roots: Iterable[str],
        equipment: Iterable[str],
        projects: Iterable[tuple[str, str]],
        people: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(data, auto_id="filter-%s", label_suffix="")
        names = [("", "All staging roots"), *((name, visible(name)) for name in roots)]
        instruments = [("", "All instruments"), *((name, visible(name)) for name in equipment)]
        self.fields["root"] = forms.ChoiceField(label="Staging root", choices=names, required=False)
        self.fields["equipment"] = forms.ChoiceField(label="Instrument", choices=instruments, required=False)
        self.fields["project"] = forms.ChoiceField(choices=[("", "All projects"), *projects], required=False)
        whose = [("", "Any person"), (MINE, "Mine"), *((OF + folded, words) for folded, words in people)]
        self.fields["whose"] = forms.ChoiceField(label="Person", choices=whose, required=False)
        self.order_fields(["q", "root", "state", "verdict", "equipment", "project", "whose", "kind", "sort"])

    @property
    def has_several_roots(self) -> bool:
        return len(self.fields["root"].choices) > 2  # type: ignore[attr-defined]  # it is a ChoiceField

    def chosen(self) -> dict[str, str]:
        self.is_valid()
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        if chosen.get("state") != State.CLEARED:
            chosen.pop("freed", None)  # it says nothing of runs that are staged
        return chosen
