"""The forms of a policy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.forms.boundfield import BoundField

from cleanup.models import Project, RetentionPolicy, RunKind
from cleanup.rules.policies.effective import decided_by, effective_policy, limits_of
from cleanup.rules.policies.fields import (
    CHOSEN,
    LABELS,
    NOT_SO_NARROW,
    READERS,
    ROOT_FIELDS,
    RUN_FIELDS,
    SWEEP_FIELDS,
    names_near,
)
from cleanup.rules.policies.policy import DEFAULT_REHEARSAL_NIGHTS, Beyond, Mode, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.sentences import say_field, say_typed
from cleanup.rules.quantities import AT_ONCE
from cleanup.text.values import visible


class NameField(forms.ChoiceField):
    """A known name, or none for all."""

    def __init__(self, label: str, everything: str, known: Iterable[str], *, typed: str) -> None:
        self.known = list(known)
        choices = [("", everything), *((name, visible(name)) for name in self.known)]
        if typed and typed.isprintable() and typed not in self.known:
            choices.append((typed, f"{visible(typed)} (not known)"))  # the typed text stays on the page
        super().__init__(label=label, choices=choices, required=False)

    def validate(self, value: str) -> None:
        if value and value not in self.known:
            near = ", ".join(map(visible, names_near(value[:MAX_NAME], self.known))) or "none"
            raise forms.ValidationError(f"{visible(value[:MAX_NAME])} is not known here; nearest: {near}.")


class ScopeForm(forms.Form):
    def __init__(self, data: Any = None, *, roots: Iterable[str], equipment: Iterable[str]) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="scope-%s", label_suffix="")
        known: dict[str, tuple[str, str, Iterable[str]]] = {
            "root": ("Staging root", "Every staging root", roots),
            "equipment": ("Instrument", "Every instrument", equipment),
            "project": ("Project", "Every project", _known_projects()),
            "run_kind": ("Kind of run", "Every kind of run", RunKind.values),
        }
        for name, (label, everything, names) in known.items():
            self.fields[name] = NameField(label, everything, names, typed=self.data.get(name, "")[:MAX_NAME])

    @property
    def scope(self) -> Scope:
        return Scope(**{name: value or None for name, value in self.cleaned_data.items()})


class TypedField(forms.CharField):
    """A typed number or None; the form's own text means the exact stored number, even if rounded."""

    def __init__(self, name: str, label: str, hint: str, *, stored: float | None) -> None:
        self.read: Callable[[str], float] = READERS[name]
        self.stored = stored
        self.said = "" if stored is None else say_typed(name, stored)
        super().__init__(
            label=label,
            help_text=hint,
            initial=self.said,
            required=False,
            max_length=LONGEST_TYPED,
            widget=forms.TextInput(attrs={"autocomplete": "off"}),
        )

    def clean(self, value: Any) -> float | None:  # noqa: ANN401
        text = super().clean(value)
        if text == self.said:
            return self.stored
        try:
            return self.read(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(f"{visible(error)}.") from None


@dataclass(frozen=True)
class FieldGroup:
    """`elsewhere`: where the fields are set if not in this scope."""

    title: str
    fields: list[BoundField]
    elsewhere: str = ""


class PolicyForm(forms.Form):
    """A new version of one scope; an empty field is unset, a field that is not sent keeps its value."""

    made_from = forms.IntegerField(
        min_value=0,
        widget=forms.HiddenInput,
        error_messages=dict.fromkeys(("required", "invalid", "min_value"), "The form was incomplete: open it anew."),
    )

    def __init__(
        self,
        data: Any = None,  # noqa: ANN401
        *,
        scope: Scope,
        before: RetentionPolicy | None,
        scoped: Iterable[ScopedPolicy],
    ) -> None:
        super().__init__(data, auto_id="policy-%s", label_suffix="")
        self.scope, self.before = scope, before
        self.fields["made_from"].initial = before.version if before else 0
        unset = _said_elsewhere(scope, scoped)
        self.fields["mode"] = _choice_or_unset("Mode", MODES, self._stored("mode"), unset["mode"])
        self.fields["proof"] = _choice_or_unset("Proof", PROOFS, self._stored("proof"), unset["proof"], PROOF_HINT)
        self.fields["only_here"] = _choice_or_unset(
            LABELS["only_here"], BEYOND, self._stored("only_here"), unset["only_here"], BEYOND_HINT
        )
        for name, (label, hint) in TYPED.items():
            hint = f"{hint} Empty: {unset[name]}."
            self.fields[name] = TypedField(name, label, hint, stored=self._stored(name))
        self.fields["rehearse"] = forms.ChoiceField(
            label="Rehearse first",
            choices=[("yes", "Yes: the timed pass first only records what it would clear"), ("no", "No, never")],
            initial="yes" if self._rehearsed_before() else "no",
            required=False,
            help_text="A change that can only keep more is not rehearsed again.",
        )
        self.fields["note"] = forms.CharField(
            label="Why",
            required=False,
            max_length=RetentionPolicy._meta.get_field("note").max_length,
            widget=forms.TextInput(attrs={"autocomplete": "off"}),
            help_text="Optional; kept with the version.",
        )

    def clean_note(self) -> str:
        note: str = self.cleaned_data["note"]
        if not note.isprintable():
            raise forms.ValidationError("Write one line of text.")
        return note

    def clean(self) -> None:
        if not self.errors and not self.changed_fields() and self.rehearse == self._rehearsed_before():
            raise forms.ValidationError("There is nothing to write: no field says anything new.")

    def changed_fields(self) -> dict[str, Any]:
        sent = {name: self.cleaned_data[name] for name in (*CHOSEN, *TYPED) if name in self.data}
        return {name: value for name, value in sent.items() if value != self._stored(name)}

    @property
    def rehearse(self) -> bool:
        answer = self.cleaned_data["rehearse"]
        return answer == "yes" if answer else self._rehearsed_before()

    def groups(self) -> list[FieldGroup]:
        """Fields without meaning in this scope only if they are filled."""
        narrow = bool(self.scope.equipment or self.scope.project or self.scope.run_kind)
        of_root = self._group(
            "When the disk is too full",
            ROOT_FIELDS,
            "" if self.scope.root and not narrow else "These limits are set for one staging root as a whole.",
        )
        of_sweep = self._group(
            "What one pass may take",
            SWEEP_FIELDS,
            NOT_SO_NARROW if narrow else "",
        )
        return [
            self._group("What goes, and when", ("mode", "retain_hours", "min_retain_hours", "proof", "only_here")),
            of_root,
            of_sweep,
            self._group("Alarms", ("stalled_after_hours",)),
            self._group("Rehearsal", ("rehearse", "rehearsal_nights")),
            self._group("This change", ("note",)),
        ]

    def _group(self, title: str, names: Iterable[str], elsewhere: str = "") -> FieldGroup:
        fields = [self[name] for name in names]
        return FieldGroup(title, [field for field in fields if not elsewhere or field.value()], elsewhere)

    def _stored(self, name: str) -> Any:  # noqa: ANN401
        if self.before is None:
            return "" if name in CHOSEN else None
        return getattr(self.before, name)

    def _rehearsed_before(self) -> bool:
        return self.before is None or self.before.rehearsal != Stage.OFF


# The length of the columns, and of any sensible number.
MAX_NAME = 255
LONGEST_TYPED = 60

MODES = (
    (Mode.MANUAL.value, "Manual: cleared by an operator alone"),
    (Mode.SCHEDULED.value, "Scheduled: cleared by time as well"),
)
PROOFS = (
    (ProofLevel.RECORD.value, "Record: the wizard's word alone"),
    (ProofLevel.SIZE.value, "Size: names and sizes on the NAS"),
    (ProofLevel.CHECKSUM.value, "Checksum: every byte of both copies"),
)
PROOF_HINT = "Beware of record: nothing on the NAS is looked at, and a copy that is lost or damaged there goes unseen."

BEYOND = (
    (Beyond.TELL.value, "Told: before the click, and in the receipt"),
    (Beyond.BLOCK.value, "Blocked: the run stays until the NAS has them"),
)
BEYOND_HINT = "The bytes of files are compared in any case. Attributes are extended ones and access lists."

_HOURS = "Such as 7d, 36h or 90m; a plain number is hours."
_SIZE = "Such as 8TB, 500GB or 200GiB."
_COUNT = "A whole number."
# The typed fields: (name, how it is written). If a group's title says half of it, or the
# form asks for what a version tells, the name differs from `LABELS`.
TYPED = {
    "retain_hours": ("Keep after the verification", f"{_HOURS} 0 h: {AT_ONCE}."),
    "min_retain_hours": ("Keep at least, where the disk is too full", f"{_HOURS} 0 h: {AT_ONCE}."),
    "stalled_after_hours": ("Call a run stalled that stands in one state for", _HOURS),
    "max_bytes": (LABELS["max_bytes"], f"For a staging root. {_SIZE}"),
    "max_runs": (LABELS["max_runs"], f"For a staging root. {_COUNT}"),
    "free_start_bytes": (LABELS["free_start_bytes"], f"For a staging root. {_SIZE}"),
    "free_stop_bytes": (LABELS["free_stop_bytes"], f"For a staging root; more than the one above. {_SIZE}"),
    "budget_runs": ("Runs, at most", f"For a staging root, or the whole lab. {_COUNT}"),
    "budget_bytes": ("Bytes, at most", f"For a staging root, or the whole lab. {_SIZE}"),
    "budget_minutes": (
        "Begin nothing more after",
        "For a staging root, or the whole lab. Such as 90m or 2h; a plain number is minutes.",
    ),
    "max_share": (
        "Stop and ask where it would take more of the staged bytes than",
        "In one pass, or in all passes of 24 hours. For a staging root, or the whole lab. Such as 50% or 0.5.",
    ),
    "rehearsal_nights": ("Clean nights before it is promoted", f"{_COUNT} 0: only an admin promotes it."),
}


def _known_projects() -> list[str]:
    of_policies = RetentionPolicy.objects.exclude(project="").order_by().values_list("project", flat=True).distinct()
    return sorted({*Project.objects.values_list("code", flat=True), *of_policies})


def _choice_or_unset(
    label: str, choices: Iterable[tuple[str, str]], stored: str, unset: str, hint: str = ""
) -> forms.ChoiceField:
    choices = [("", f"Not set here: {unset}"), *choices]
    return forms.ChoiceField(label=label, choices=choices, initial=stored, required=False, help_text=hint)


def _said_elsewhere(scope: Scope, scoped: Iterable[ScopedPolicy]) -> dict[str, str]:
    others = [policy for policy in scoped if policy.scope != scope]
    policy, limits = effective_policy(others, scope), limits_of(others, scope.root or "")
    values = {name: getattr(policy, name) for name in RUN_FIELDS}
    values |= {name: getattr(limits, name) for name in (*ROOT_FIELDS, *SWEEP_FIELDS)}
    said = {name: "no limit" if value is None else say_field(name, value) for name, value in values.items()}
    if "min_retain_hours" not in decided_by(others, scope):
        said["min_retain_hours"] = "as long as otherwise"
    return said | {"rehearsal_nights": str(DEFAULT_REHEARSAL_NIGHTS)}
