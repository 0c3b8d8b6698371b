"""What people may type: filters of the list, the reason of a clear, the address of a NAS root."""

import os.path
from collections.abc import Iterable
from typing import Any

from django import forms

from cleanup.models import ClearAttempt, StagingRoot
from cleanup.policy.lifecycle import State
from cleanup.templatetags.words import visible

# Not states of a run but of our knowledge of it.
UNREADABLE = "unreadable"

STATE_CHOICES = [
    ("", "All staged runs"),
    *((state.value, state.value.replace("_", " ")) for state in State if state is not State.CLEARED),
    (UNREADABLE, "no readable record"),
    (State.CLEARED.value, "cleared"),
]
VERDICT_CHOICES = [("", "Any verdict"), ("go", "Safe to clear"), ("wait", "Waits"), ("block", "Blocked")]


class FilterForm(forms.Form):
    """The filters of the list. A value that is no choice is dropped, so every address leads to a page."""

    state = forms.ChoiceField(choices=STATE_CHOICES, required=False)
    verdict = forms.ChoiceField(choices=VERDICT_CHOICES, required=False)

    def __init__(self, data: Any, *, equipment: Iterable[str], projects: Iterable[tuple[str, str]]) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="filter-%s", label_suffix="")
        instruments = [("", "All instruments"), *((name, visible(name)) for name in equipment)]
        self.fields["equipment"] = forms.ChoiceField(label="Instrument", choices=instruments, required=False)
        self.fields["project"] = forms.ChoiceField(choices=[("", "All projects"), *projects], required=False)
        self.order_fields(["state", "equipment", "project", "verdict"])

    def chosen(self) -> dict[str, str]:
        """The filters that are set and make sense."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}


class ClearForm(forms.Form):
    """The words an operator may leave with a clear."""

    note = forms.CharField(
        required=False,
        max_length=ClearAttempt._meta.get_field("note").max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class StagingRootForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """What the admin may change of a staging root; the token decides whether the NAS root is the right one."""

    class Meta:
        model = StagingRoot
        fields = ("name", "nas_path", "allow_same_filesystem")

    def clean_nas_path(self) -> str:
        path: str = self.cleaned_data["nas_path"]
        if not path:
            return path
        if not path.startswith("/") or path.startswith("//") or os.path.normpath(path) != path or path == "/":
            raise forms.ValidationError("Give the absolute path of a directory, without '..' and not '/'.")
        if any(_lies_within(path, other) or _lies_within(other, path) for other in self._staging_paths()):
            raise forms.ValidationError("A NAS root and a staging root may not lie within each other.")
        return path

    def _staging_paths(self) -> list[str]:
        return list(StagingRoot.objects.filter(host=self.instance.host).values_list("path", flat=True))


def _lies_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == os.path.normpath(folder)
