"""The forms of the admin."""

import os.path
from datetime import time
from typing import Any, ClassVar

from django import forms

from cleanup.lab.nas import shared_twins
from cleanup.models import StagingRoot
from cleanup.storage.twin_paths import MAX_LENGTH, NAMED, LayoutError, parse_layout


class StagingRootForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    nas_layout = forms.CharField(
        label="Layout of the NAS",
        required=False,
        max_length=MAX_LENGTH,
        help_text="Where the copy of a run lies below its NAS root: run-path, equipment/leaf, leaf, or a template of "
        "{equipment} {project} {kind} {leaf}.",
    )
    prove_bytes_per_second = forms.IntegerField(
        label="Bytes a second read on the NAS",
        required=False,
        min_value=0,
        max_value=10**12,
        help_text="Runs are proven ahead of a click. So many bytes a second are then read on the NAS at most; 0: as "
        "many as it gives. A clear reads as fast as it can.",
    )

    class Meta:
        model = StagingRoot
        fields = (
            "name",
            "nas_path",
            "nas_layout",
            "allow_same_filesystem",
            "allow_union_nas",
            "nas_writes_through",
            "prove_bytes_per_second",
            "prove_from",
            "prove_until",
            "alarm_percent",
            "alarm_hours",
        )
        help_texts: ClassVar = {
            "allow_same_filesystem": "For trials only: that is no second copy.",
            "allow_union_nas": "As mergerfs or overlay; only if none of its layers lies on the staging disk.",
            "nas_writes_through": "As rclone, s3fs or davfs2; only with its cache off.",
            "prove_from": "Runs are proven ahead only between these hours of the lab; both empty: at any hour.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        proposal = self.instance.layout_proposal
        if proposal and proposal["layout"] != self.instance.nas_layout:
            self.fields[
                "nas_layout"
            ].help_text += (
                f" Under {proposal['layout']}, {proposal['found']} of {proposal['of']} verified runs have a copy."
            )

    def clean_nas_path(self) -> str:
        path: str = self.cleaned_data["nas_path"]
        if not path:
            return path
        if not path.startswith("/") or path.startswith("//") or os.path.normpath(path) != path or path == "/":
            raise forms.ValidationError("Give the absolute path of a directory, without '..' and not '/'.")
        if any(_lies_within(path, other) or _lies_within(other, path) for other in self._staging_paths()):
            raise forms.ValidationError("A NAS root and a staging root may not lie within each other.")
        return path

    def clean_prove_bytes_per_second(self) -> int:
        return self.cleaned_data["prove_bytes_per_second"] or 0

    def clean_prove_until(self) -> time | None:
        until: time | None = self.cleaned_data["prove_until"]
        if (until is None) != (self.cleaned_data.get("prove_from") is None):
            raise forms.ValidationError("Give both hours, or none.")
        return until

    def clean_nas_layout(self) -> str:
        """An empty layout keeps the stored one."""
        try:
            nas_layout = parse_layout(self.cleaned_data["nas_layout"] or self.instance.nas_layout)
        except LayoutError as error:
            raise forms.ValidationError(str(error)) from None
        pairs = shared_twins.collisions(self.instance, nas_layout) if nas_layout not in NAMED else []
        if pairs:
            raise forms.ValidationError(f"The runs {pairs[0][0]} and {pairs[0][1]} would have one copy on the NAS.")
        return nas_layout

    def _staging_paths(self) -> list[str]:
        return list(StagingRoot.objects.filter(host=self.instance.host).values_list("path", flat=True))


def _lies_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == os.path.normpath(folder)
