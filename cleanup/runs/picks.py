"""The runs that the operator picked. Changes are numbered, so that no page undoes a newer change of another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from cleanup.models import KeptSelection

KEY = "selection"
_LOG = "selection_log"
# Changes of this many runs are remembered one by one.
_REMEMBERED = 4_000


@dataclass(frozen=True)
class Picks:
    """The picked runs by key.

    `version` counts the changes, `changed` has each run's last, `floor` that of all others.
    """

    keys: frozenset[int] = frozenset()
    version: int = 0
    floor: int = 0
    changed: Mapping[int, int] = field(default_factory=dict)

    def unseen(self, keys: Iterable[int], seen: int) -> frozenset[int]:
        """Return which runs changed after a page's change `seen`."""
        return frozenset(key for key in keys if self.changed.get(key, self.floor) > seen)

    def dropped(self, keys: Iterable[int], seen: int | None) -> frozenset[int]:
        """Return which runs were dropped after change `seen`; None: ever."""
        gone = frozenset(keys) - self.keys
        return frozenset(key for key in gone if key in self.changed) if seen is None else self.unseen(gone, seen)

    def become(self, keys: frozenset[int]) -> Self:
        """Return the next selection."""
        if keys == self.keys:
            return self
        version = self.version + 1
        changed = {**self.changed, **dict.fromkeys(keys ^ self.keys, version)}
        forgotten = sorted(changed, key=lambda key: -changed[key])[_REMEMBERED:]
        floor = max([self.floor, *(changed[key] for key in forgotten)])
        kept = {key: at for key, at in changed.items() if at > floor}
        return replace(self, keys=keys, version=version, floor=floor, changed=kept)


def of(session: SessionBase) -> Picks:
    """Return a session's selection; empty for a damaged one."""
    return _read(session.get(KEY, []), session.get(_LOG, {}))


def keep(session: SessionBase, user: User | AnonymousUser, picks: Picks) -> None:
    """Keep a selection in the session, and for the user's next one."""
    if picks == of(session) and session.get(KEY, []) == sorted(picks.keys):
        return
    _store(session, picks)
    if isinstance(user, User):
        kept = {"keys": sorted(picks.keys), "log": _log(picks)}
        KeptSelection.objects.update_or_create(user=user, defaults={"picks": kept})


def bring_back(request: HttpRequest, user: User, **kwargs: Any) -> None:  # noqa: ANN401
    """Restore the user's last selection; a handler of `user_logged_in`."""
    row = KeptSelection.objects.filter(user=user).first()
    picks = _read(row.picks.get("keys", []), row.picks.get("log", {})) if row else Picks()
    if picks != of(request.session):
        _store(request.session, picks)


def _store(session: SessionBase, picks: Picks) -> None:
    session[_LOG] = _log(picks)
    if picks.keys:
        session[KEY] = sorted(picks.keys)
    else:
        session.pop(KEY, None)


def _log(picks: Picks) -> dict[str, Any]:
    return {"version": picks.version, "floor": picks.floor, "changed": {str(k): at for k, at in picks.changed.items()}}


def _read(keys: Any, log: Any) -> Picks:  # noqa: ANN401
    known = frozenset(key for key in keys if isinstance(key, int)) if isinstance(keys, list) else frozenset()
    if not isinstance(log, dict) or "version" not in log:
        return Picks(known)
    changed = {int(key): at for key, at in log["changed"].items()}
    return Picks(known, log["version"], log["floor"], changed)
