"""What timed sweeps will take of the runs that a user sees."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User

from cleanup.lab.people import permissions
from cleanup.models import Announcement, StagingRoot
from cleanup.monitoring import evening_mail, forecasts
from cleanup.monitoring.forecasts import Coming, Foreseen
from cleanup.rules.announcements import AnnouncedAmount, is_much, last_evening, name_moment
from cleanup.rules.policies.policy import ScopedPolicy


@dataclass(frozen=True, kw_only=True)
class ComingText:
    """The next sweep on one root (`first`) and the others (`rest`).

    `loud`: it is announced, or clears for the first time. `unsent`: why a mail was not sent.
    """

    first: str = ""
    rest: str = ""
    rehearsed: str = ""
    stops: str = ""
    earnest: bool = False
    loud: bool = False
    unsent: str = ""


def coming(
    user: User, roots: Sequence[StagingRoot], scoped: list[ScopedPolicy], now: datetime
) -> Mapping[int, ComingText]:
    found = forecasts.of_roots(roots, scoped, now)
    unsent = _unsent(found, now) if any(one.passes for one in found.values()) else {}
    places = permissions.places(user, permissions.VIEW)
    shown = {}
    for root in roots:
        if (foreseen := found.get(root.pk)) is not None:
            names = {name for one in foreseen.passes for name in one.by_instrument} | {*foreseen.rehearsed}
            seen = {name for name in names if places.include(root.pk, name)}
            shown[root.pk] = _show(foreseen, seen, unsent.get(root.pk, ""), now)
    return shown


def _show(foreseen: Foreseen, seen: set[str], unsent: str, now: datetime) -> ComingText:
    passes = list(forecasts.shown(foreseen, seen))
    rehearsed = forecasts.total(amount for name, amount in foreseen.rehearsed.items() if name in seen)
    amounts = [_amount(one) for one in passes]
    return ComingText(
        first=_capital(evening_mail.say_pass(passes[0], now)) if passes else "",
        rest=evening_mail.say_amount(forecasts.total(amounts[1:])) if amounts[1:] else "",
        rehearsed=_capital(evening_mail.say_rehearsed(rehearsed)) if rehearsed.runs else "",
        stops=_stops(foreseen, now),
        earnest=bool(passes and foreseen.first_of),
        loud=bool(passes and foreseen.first_of)
        or any(is_much(amount, staged_bytes=foreseen.staged_bytes) for amount in amounts),
        unsent=unsent if passes else "",
    )


def _stops(foreseen: Foreseen, now: datetime) -> str:
    if not foreseen.stops or foreseen.stops_at is None:
        return ""
    moment = name_moment(foreseen.stops_at, now, evening_mail.zone())
    return f"{_capital(moment)} the pass would stop and ask. {foreseen.stops}"


def _unsent(roots: Iterable[int], now: datetime) -> dict[int, str]:
    tonight = Announcement.objects.filter(root__in=roots, at__gte=last_evening(now, evening_mail.zone()))
    return dict(tonight.exclude(mail_problem="").order_by("pk").values_list("root", "mail_problem"))


def _amount(one: Coming) -> AnnouncedAmount:
    return forecasts.total(one.by_instrument.values())


def _capital(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"
