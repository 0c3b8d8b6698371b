"""The reason of a clear."""

import re

from django import forms

from cleanup.models import ClearAttempt


class ClearForm(forms.Form):
    """What comes back from a preview."""

    runs = forms.CharField(required=False, max_length=40_000, widget=forms.HiddenInput)
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

    def clean_typed(self) -> int | None:
        """A whole number, with or without thousands separators."""
        text = self.cleaned_data["typed"].strip()
        whole = re.fullmatch(r"[0-9]+|[0-9]{1,3}(?:[\s,.'\u2019_][0-9]{3})+", text)
        return int(re.sub(r"[^0-9]", "", text)) if whole else None
