"""What comes back from the question whether to clear."""

import re
from datetime import datetime, time
from typing import Any

from django import forms

from cleanup.lab import days
from cleanup.models import ClearAttempt

# The button that lets a batch wait.
LATER = "later"
EVENING = time(22, 0)


class ClearForm(forms.Form):
    """What comes back from a preview.

    `runs`: those shown as going or staying, without the unticked; `unticked`: those that had no tick when they were
    shown. `starts` counts only with the button that says so.
    """

    runs = forms.CharField(required=False, max_length=40_000, widget=forms.HiddenInput)
    unticked = forms.CharField(required=False, max_length=40_000, widget=forms.HiddenInput)
    digest = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    batch = forms.UUIDField(required=False, widget=forms.HiddenInput)
    typed = forms.CharField(
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "required": True}),
    )
    note = forms.CharField(
        required=False,
        max_length=ClearAttempt._meta.get_field("note").max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    when = forms.CharField(required=False, max_length=8)
    starts = forms.TimeField(
        required=False,
        initial=EVENING,
        input_formats=["%H:%M"],
        error_messages={"invalid": "Type a time such as 22:00."},
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )

    def clean(self) -> dict[str, Any]:
        sent: dict[str, Any] = super().clean() or self.cleaned_data
        if sent.get("when") == LATER and sent.get("starts") is None and "starts" not in self.errors:
            self.add_error("starts", "Type the time at which these runs are to be cleared.")
        elif sent.get("when") != LATER:
            self.errors.pop("starts", None)
        return sent

    def starts_at(self, now: datetime) -> datetime | None:
        """When a valid form lets its batch begin; None: at once."""
        sent = self.cleaned_data
        return days.next_at(sent["starts"], now) if sent["when"] == LATER else None

    def anew(self) -> "ClearForm":
        """The same reason and time for another preview; its number has to be typed anew."""
        kept = {name: value for name in ("note", "starts") if (value := self.cleaned_data.get(name))}
        return ClearForm(initial=kept)

    def clean_typed(self) -> int | None:
        """A whole number, with or without thousands separators."""
        text = self.cleaned_data["typed"].strip()
        whole = re.fullmatch(r"[0-9]+|[0-9]{1,3}(?:[\s,.'\u2019_][0-9]{3})+", text)
        return int(re.sub(r"[^0-9]", "", text)) if whole else None
