"""What a user may do where: the user's permissions, limited to places."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from cleanup.lab.people import accounts
from cleanup.lab.people.accounts import PlaceRow
from cleanup.models import Access, Instrument, Run, RunQuerySet, StagingRoot, StagingRootQuerySet

VIEW = "cleanup.view_run"
CLEAR = "cleanup.clear_run"
HOLD = "cleanup.hold_run"
CHANGE = "cleanup.change_run"
ACCEPT = "cleanup.accept_bytes"
# Registering, changing and retiring staging roots, of every host.
ROOTS = "cleanup.add_stagingroot"
# It holds everywhere: the user's places do not limit it.
AUDIT = "cleanup.audit"
_OF_RUNS = frozenset({VIEW, CLEAR, HOLD, CHANGE, ACCEPT})


@dataclass(frozen=True)
class Places:
    """Where a permission holds: everywhere, or in pairs (root key, instrument).

    None stands for every root, an empty name for every instrument.
    """

    everywhere: bool
    pairs: frozenset[tuple[int | None, str]] = frozenset()

    @property
    def nowhere(self) -> bool:
        return not (self.everywhere or self.pairs)

    def include(self, root: int | None, equipment: str) -> bool:
        """An empty name asks for all instruments."""
        return self.everywhere or any(
            place in (None, root) and instrument in ("", equipment) for place, instrument in self.pairs
        )

    def q(self, root: str = "root", equipment: str = "equipment") -> Q:
        """Rows without an instrument (empty `equipment`): one instrument of their root is enough."""
        if self.everywhere:
            return Q()
        # SQLite takes at most a thousand conditions.
        whole = {place for place, instrument in self.pairs if not instrument}
        single: defaultdict[int | None, set[str]] = defaultdict(set)
        for place, instrument in self.pairs:
            if instrument:
                single[place].add(instrument)
        condition = Q(**{f"{root}__in": whole})
        for place, names in single.items():
            if not equipment:
                of_any = Instrument.objects.filter(equipment__in=names).order_by()
                condition |= Q(**{f"{root}__in": of_any.values("root") if place is None else {place}})
            elif place is None:
                condition |= Q(**{f"{equipment}__in": names})
            else:
                condition |= Q(**{root: place, f"{equipment}__in": names})
        return condition


def places(user: User | AnonymousUser, permission: str) -> Places:
    """Where a user has a permission such as `cleanup.clear_run`; cached on the user.

    A group's places count for its permissions only, a user's for all of the user's.
    """
    known: dict[str, Places] = user.__dict__.setdefault("_cleanup_places", {})
    if permission not in known:
        known |= _find_places(user, _OF_RUNS | {permission})
    return known[permission]


def ask_anew(user: User | AnonymousUser) -> None:
    """Forget the user's places: after a wait for a lock a place may have been taken away."""
    user.__dict__.pop("_cleanup_places", None)
    accounts.forget_places(user)


def runs(user: User | AnonymousUser, permission: str = VIEW) -> RunQuerySet:
    """The runs for which a user has a permission."""
    return Run.objects.filter(_where(user, permission).q())


def roots(user: User | AnonymousUser, permission: str = VIEW) -> StagingRootQuerySet:
    """The staging roots where a user has a permission for any instrument."""
    return StagingRoot.objects.filter(_where(user, permission).q(root="pk", equipment=""))


def instruments(user: User | AnonymousUser, permission: str = VIEW) -> QuerySet[Instrument]:
    """The instruments for whose runs a user has a permission."""
    return Instrument.objects.filter(_where(user, permission).q())


def may(user: User | AnonymousUser, permission: str, run: Run) -> bool:
    """Whether a user has a permission for one run."""
    return _where(user, permission).include(run.root_id, run.equipment)


def manages_roots(user: User | AnonymousUser) -> bool:
    """Whether a user may register and retire staging roots. They are folders of hosts: only with a place everywhere."""
    return user.has_perm(ROOTS) and places(user, ROOTS).everywhere


def open_to(user: User | AnonymousUser, keys: Iterable[int]) -> set[int]:
    """Those of some runs whose pages a user may open; an auditor may read of others, too."""
    if not user.has_perm(VIEW):
        return set()
    return set(runs(user).filter(pk__in=list(keys)).order_by().values_list("pk", flat=True))


def _where(user: User | AnonymousUser, permission: str) -> Places:
    """Never wider than where the user may view."""
    found = places(user, permission)
    if permission == VIEW or (found.everywhere and places(user, VIEW).everywhere):
        return found
    return _both(found, places(user, VIEW))


def _both(first: Places, second: Places) -> Places:
    if first.everywhere:
        return second
    if second.everywhere:
        return first
    pairs: set[tuple[int | None, str]] = set()
    for root, instrument in first.pairs:
        for other_root, other_instrument in second.pairs:
            same_root = root == other_root or None in (root, other_root)
            same_instrument = instrument == other_instrument or "" in (instrument, other_instrument)
            if same_root and same_instrument:
                pairs.add((other_root if root is None else root, instrument or other_instrument))
    return Places(everywhere=(None, "") in pairs, pairs=frozenset(pairs))


def _find_places(user: User | AnonymousUser, permissions: Collection[str]) -> dict[str, Places]:
    if not user.is_active or not user.is_authenticated:
        return dict.fromkeys(permissions, Places(everywhere=False))
    if user.is_superuser:
        return dict.fromkeys(permissions, Places(everywhere=True))
    found = accounts.places_of(user)
    if found is None:
        found = _ask(user, permissions)
    return {permission: _places_in(found, permission, personal=user.has_perm(permission)) for permission in permissions}


def _ask(user: User, permissions: Collection[str]) -> list[PlaceRow]:
    label, codename = "group__permissions__content_type__app_label", "group__permissions__codename"
    of_groups: dict[str, Any] = {
        "group__user": user,
        f"{codename}__in": [permission.partition(".")[2] for permission in permissions],
    }
    rows = Access.objects.filter(Q(**of_groups) | Q(user=user)).order_by()
    return list(rows.values_list("user", label, codename, "root", "equipment").distinct())


def _places_in(rows: Iterable[PlaceRow], permission: str, *, personal: bool) -> Places:
    """Where a permission holds by rows of places; the user's own count where the permission is the user's."""
    pairs = frozenset(
        (root, equipment)
        for owner, label, codename, root, equipment in rows
        if (personal if owner is not None else f"{label}.{codename}" == permission)
    )
    return Places(everywhere=(None, "") in pairs, pairs=pairs)
