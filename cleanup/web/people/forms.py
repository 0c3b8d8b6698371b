"""The forms for accounts; each change asks for the admin's own password again."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from cleanup.lab.people.roles import Place, Role, Standing
from cleanup.models import Instrument
from cleanup.text.values import visible
from cleanup.web import password_again

# At most this many instruments are offered as places.
MOST_PLACES = 500
ROLES = [
    (Role.VIEWER.value, "Viewer: sees the runs, and why they stay"),
    (Role.OPERATOR.value, "Operator: also clears, holds, and lets automatic clearing go on"),
    (Role.ADMIN.value, "Admin: everything, also policies, staging roots and people"),
    (Role.NONE.value, "No role: may sign in, and sees nothing"),
]
EVERY_PLACE, SOME_PLACES = "everywhere", "places"


class AccountActForm(forms.Form):
    """A wrong password counts as a failed sign-in."""

    own_password = forms.CharField(
        label="Your own password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, data: Any = None, *, request: HttpRequest, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(data, label_suffix="", **kwargs)
        self.request = request
        self.order_fields([*(name for name in self.fields if name != "own_password"), "own_password"])

    def clean_own_password(self) -> str:
        given: str = self.cleaned_data["own_password"]
        if not password_again.is_own(self.request, given):
            raise ValidationError("This is not the password of your own account.")
        return given


class RoleForm(AccountActForm):
    """What an account may do, and where. `standing`: as it is now; `names`: of the staging roots by key."""

    role = forms.ChoiceField(choices=ROLES, widget=forms.RadioSelect, label="What may this person do?")
    audits = forms.BooleanField(required=False, label="Also sees what was freed, and its files (auditor)")
    where = forms.ChoiceField(
        choices=[(EVERY_PLACE, "Everywhere"), (SOME_PLACES, "Only at these places:")],
        widget=forms.RadioSelect,
        label="Where?",
    )
    places = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple, label="Places")
    email = forms.EmailField(
        required=False, label="Mail address", widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )

    def __init__(
        self,
        data: Any = None,  # noqa: ANN401
        *,
        standing: Standing,
        names: Mapping[int, str],
        email: str = "",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        initial = {
            "role": standing.role.value,
            "audits": standing.audits,
            "where": EVERY_PLACE if standing.everywhere else SOME_PLACES,
            "places": [_code(place) for place in standing.places],
            "email": email,
        }
        super().__init__(data, initial=initial, **kwargs)
        offered: Any = self.fields["places"]
        offered.choices = _offered(standing.places, names)

    @property
    def standing(self) -> Standing:
        """As it was typed, of a valid form."""
        given = self.cleaned_data
        return Standing(
            role=Role(given["role"]),
            audits=given["audits"],
            everywhere=given["where"] == EVERY_PLACE,
            places=frozenset(_place(code) for code in given["places"]),
        )

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        placed = given.get("role") in (Role.VIEWER, Role.OPERATOR) and given.get("where") == SOME_PLACES
        if placed and "places" in given and not given["places"]:
            self.add_error("places", "Choose at least one place, or “Everywhere”.")
        return given


class AddPersonForm(RoleForm):
    """A new account. Without a password one is drawn."""

    username = UsernameField(label="User name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    new_password = forms.CharField(
        label="First password",
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    field_order = ("username", "email", "role", "where", "places", "audits", "new_password", "own_password")

    def clean_username(self) -> str:
        name = User.normalize_username(self.cleaned_data["username"])
        User.username_validator(name)
        if User.objects.filter(username__iexact=name).exists():
            raise ValidationError("There is an account with this name.")
        return str(name)

    def clean_new_password(self) -> str:
        return _fit(self.cleaned_data["new_password"], User(username=self.data.get("username", "")))


class NewPasswordForm(AccountActForm):
    """Another password for an account. Without one it is drawn."""

    new_password = forms.CharField(
        label="New password",
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, data: Any = None, *, person: User, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(data, **kwargs)
        self.person = person

    def clean_new_password(self) -> str:
        return _fit(self.cleaned_data["new_password"], self.person)


def _fit(password: str, user: User) -> str:
    """Raises ValidationError for one that Django's validators refuse."""
    if password:
        validate_password(password, user)
    return password


def _offered(current: Iterable[Place], names: Mapping[int, str]) -> list[tuple[str, str]]:
    """The whole roots, their instruments, and what an account has already."""
    instruments = Instrument.objects.order_by("root__name", "equipment").values_list("root", "equipment")
    places: list[Place] = []
    by_root: dict[int, list[Place]] = {}
    for root, equipment in instruments[:MOST_PLACES]:
        by_root.setdefault(root, []).append((root, equipment))
    for root in names:
        places += [(root, ""), *by_root.get(root, ())]
    places += sorted(set(current) - set(places), key=str)
    return [(_code(place), _label(place, names)) for place in places]


def _label(place: Place, names: Mapping[int, str]) -> str:
    root, equipment = place
    name = visible(names.get(root, "a root that is gone")) if root is not None else "every staging root"
    return f"{visible(equipment)} on {name}" if equipment else f"{name}: every instrument"


def _code(place: Place) -> str:
    root, equipment = place
    return f"{root or ''}:{equipment}"


def _place(code: str) -> Place:
    """Only of codes that were offered."""
    root, _, equipment = code.partition(":")
    return int(root) if root else None, equipment
