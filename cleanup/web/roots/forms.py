"""The forms of roots. A path is only a text here: no page opens it."""

import posixpath
from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms

from cleanup.lab.roots.root_settings import SETTINGS
from cleanup.models import StagingRoot
from cleanup.storage.run_paths import is_folder_name
from cleanup.storage.twin_paths import MAX_LENGTH, LayoutError, parse_layout
from cleanup.text.values import visible

LONGEST_PATH = 4096


class PathField(forms.CharField):
    """A whole path in its shortest spelling."""

    def __init__(self, **how: Any) -> None:  # noqa: ANN401
        attrs = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "placeholder": "/mnt/…"}
        super().__init__(max_length=LONGEST_PATH, widget=forms.TextInput(attrs=attrs), **how)

    def clean(self, value: Any) -> str:  # noqa: ANN401
        path: str = super().clean(value)
        if not path:
            return ""
        if not path.isprintable():
            raise forms.ValidationError("A path is one line of text.")
        if not path.startswith("/") or path.startswith("//"):
            raise forms.ValidationError("Give the whole path, from / on.")
        if ".." in path.split("/"):
            raise forms.ValidationError("Give the path without “..”.")
        return posixpath.normpath(path)


class StagingForm(forms.Form):
    """A new staging root."""

    host = forms.ChoiceField(label="Host", help_text="The computer with the disk. Its worker looks at the path.")
    path = PathField(label="Path", help_text="The folder that holds INSTRUMENT/PROJECT/Runs.")
    name = forms.CharField(label="Name", max_length=64, help_text="Short, as pages and mails shall call it.")
    accept_empty = forms.BooleanField(
        label="The disk is new and empty",
        required=False,
        help_text="An empty folder may also be a disk that is not mounted.",
    )

    def __init__(self, *args: Any, hosts: Iterable[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        self.fields["host"] = forms.ChoiceField(
            label="Host", choices=[(host, visible(host)) for host in hosts], help_text=self.fields["host"].help_text
        )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise forms.ValidationError("A name is one line of text.")
        return name


class NasForm(forms.Form):
    """The NAS root of a staging root, or of one instrument there."""

    root = forms.ModelChoiceField(StagingRoot.objects.none(), label="Staging root", empty_label=None)
    equipment = forms.CharField(
        label="Only for the instrument",
        max_length=255,
        required=False,
        help_text="Empty: for all instruments that have no NAS root of their own.",
    )
    path = PathField(label="Path of the NAS root", help_text="The mounted folder that holds the copies.")
    nas_layout = forms.CharField(max_length=MAX_LENGTH, required=False)  # chosen among those that were tried
    own_layout = forms.CharField(
        label="Another layout",
        max_length=MAX_LENGTH,
        required=False,
        help_text="A template of {equipment} {project} {kind} {leaf}, if none of those above fits.",
    )
    allow_same_filesystem = forms.BooleanField(
        label="Accept the same filesystem", required=False, help_text="For trials only: that is no second copy."
    )
    allow_union_nas = forms.BooleanField(
        label="Accept a union mount",
        required=False,
        help_text="As mergerfs or overlay, if none of its layers lies on the staging disk.",
    )
    nas_writes_through = forms.BooleanField(
        label="The mount writes through", required=False, help_text="As rclone, s3fs or davfs2 with the cache off."
    )
    accept_empty = forms.BooleanField(
        label="The NAS is new and empty", required=False, help_text="An empty folder may be a NAS that is not mounted."
    )
    FLAGS: ClassVar = ("allow_same_filesystem", "allow_union_nas", "nas_writes_through", "accept_empty")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        self.fields["root"].queryset = StagingRoot.objects.active().order_by("name")  # type: ignore[attr-defined]

    def clean_equipment(self) -> str:
        name: str = self.cleaned_data["equipment"]
        if name and not is_folder_name(name):
            raise forms.ValidationError("No instrument can have this name.")
        return name

    def clean_nas_layout(self) -> str:
        return _layout(self.cleaned_data["nas_layout"])

    def clean_own_layout(self) -> str:
        return _layout(self.cleaned_data["own_layout"])


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """What may be changed of a root without a look at its disk."""

    class Meta:
        model = StagingRoot
        fields = tuple(SETTINGS)
        labels: ClassVar = {
            "name": "Name",
            "nas_layout": "Layout of the NAS",
            "allow_same_filesystem": "Accept a NAS on the same filesystem",
            "allow_union_nas": "Accept a union mount as the NAS",
            "nas_writes_through": "The NAS mount writes through",
            "prove_bytes_per_second": "Bytes a second read for proofs",
            "prove_from": "Proofs are made from",
            "prove_until": "Proofs are made until",
        }
        help_texts: ClassVar = {
            "name": "Entries of the ledger keep the name of their time.",
            "nas_layout": "run-path, equipment/leaf, leaf, or a template of {equipment} {project} {kind} {leaf}.",
            "allow_same_filesystem": "For trials only: that is no second copy.",
            "allow_union_nas": "As mergerfs or overlay, if none of its layers lies on the staging disk.",
            "nas_writes_through": "As rclone, s3fs or davfs2 with the cache off.",
            "prove_bytes_per_second": "At most so many on the NAS; 0: as many as it gives.",
            "prove_from": "Hours of the lab; both empty: at any hour.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        for name in ("prove_from", "prove_until"):
            self.fields[name].widget = forms.TimeInput(attrs={"type": "time"}, format="%H:%M")

    def clean_nas_layout(self) -> str:
        return _layout(self.cleaned_data["nas_layout"])

    def values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in SETTINGS}


class RegisterAgainForm(forms.Form):
    """Where a registered root lies now. Empty paths stay as they are."""

    path = PathField(label="The staging root lies in", required=False)
    nas_path = PathField(label="Its NAS root lies in", required=False)
    equipment = forms.CharField(
        label="Only the NAS root of the instrument",
        max_length=255,
        required=False,
        help_text="Empty: the NAS root of all others.",
    )
    note = forms.CharField(label="Reason", max_length=300, help_text="It stands in the ledger.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", "auto_id": "move-%s", **kwargs})


class RetireForm(forms.Form):
    """Why a root is retired; its name is typed, so that no other one is meant."""

    typed = forms.CharField(label="Type the name of the staging root", max_length=64)
    note = forms.CharField(label="Reason", max_length=300)

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", "auto_id": "retire-%s", **kwargs})
        self.name = name
        self.fields["typed"].widget.attrs["autocomplete"] = "off"

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"] != self.name:
            raise forms.ValidationError("This is not its name.")
        return self.name


class ImportForm(forms.Form):
    """What the wizard's file does not say."""

    host = forms.ChoiceField(label="Host")
    name = forms.CharField(label="Name", max_length=64, required=False, help_text="Empty: as the wizard calls it.")
    nas_path = PathField(label="The NAS is mounted in", required=False, help_text="If the plan asks for it.")

    def __init__(self, *args: Any, hosts: Iterable[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        self.fields["host"] = forms.ChoiceField(label="Host", choices=[(host, visible(host)) for host in hosts])


def _layout(text: str) -> str:
    if not text:
        return ""
    try:
        return parse_layout(text)
    except LayoutError as error:
        raise forms.ValidationError(str(error)) from None
