"""What may be done with a group of problems, as forms."""

import enum
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils import timezone

from cleanup.lab import days
from cleanup.rules import short_texts

LONGEST = timedelta(days=90)


class GroupAction(enum.StrEnum):
    TAKE = "take"
    ACKNOWLEDGE = "acknowledge"
    ASSIGN = "assign"
    GIVE_BACK = "give_back"
    PUT_OFF = "put_off"
    NOTE = "note"


class AssignForm(forms.Form):
    """`may_see`: whether an account sees the group."""

    to = forms.CharField(
        label="Account",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "accounts", "spellcheck": "false"}),
    )

    def __init__(self, data: Any = None, *, may_see: Callable[[User], bool] = lambda _user: False) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="assign-%s", label_suffix="")
        self._may_see = may_see

    def clean_to(self) -> str:
        name: str = self.cleaned_data["to"]
        user = None if "\0" in name else User.objects.filter(username=name, is_active=True).first()
        if user is None:
            raise forms.ValidationError("There is no account of this name.")
        if not self._may_see(user):
            raise forms.ValidationError(f"{name} may not see this problem, so it cannot be given to this account.")
        return name


def _tomorrow() -> date:
    return timezone.localdate() + timedelta(days=1)


class PutOffForm(forms.Form):
    """The last day counts whole."""

    last_day = forms.DateField(
        label="Until the end of",
        initial=_tomorrow,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d"],
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="put-off-%s", label_suffix="")
        today = timezone.localdate()
        self.fields["last_day"].widget.attrs |= {"min": f"{today}", "max": f"{today + LONGEST}"}

    def clean_last_day(self) -> date:
        day: date = self.cleaned_data["last_day"]
        today = timezone.localdate()
        if day < today:
            raise forms.ValidationError("This day is over. Choose today or a later one.")
        if day > today + LONGEST:
            raise forms.ValidationError(f"A problem can be put off for at most {LONGEST.days} days.")
        return day

    @property
    def until(self) -> datetime:
        return days.end_of(self.cleaned_data["last_day"])

    @property
    def said(self) -> str:
        """`the end of 6 December 2026`."""
        day: date = self.cleaned_data["last_day"]
        return f"the end of {day.day} {day:%B %Y}"


class CaseNoteForm(forms.Form):
    text = forms.CharField(
        label="Note", max_length=short_texts.MAX_REASON, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="note-%s", label_suffix="")
