"""Tells people that a staging disk fills up: on the pages, and once by mail for each episode.

A task measures and foresees; pages only read what it has stored. An episode is one open alert.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import InterfaceError, OperationalError
from django.db.models import Count
from django.utils import timezone

from cleanup.lab import alerts, mails
from cleanup.lab.people import permissions
from cleanup.lab.roots import disk_pace, disk_usage
from cleanup.models import AlertKind, DiskForecast, RunQuerySet, StagingRoot, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring import evening_mail, links
from cleanup.rules import disk_alarm
from cleanup.rules.announcements import AnnouncedAmount
from cleanup.rules.disk_alarm import AlarmMark, DiskAlarm, MeasuredFill
from cleanup.rules.quantities import say_about
from cleanup.rules.reasons import Reason

logger = logging.getLogger(__name__)

# They can make room, keep the schedule from it, or let it do more.
_MAY_ACT = (permissions.CLEAR, permissions.HOLD, "cleanup.add_retentionpolicy")


def look_at_all(roots: Iterable[StagingRoot], now: datetime) -> int:
    """Measure and foresee some disks of this host; returns how many are alarming."""
    found = 0
    for root in roots:
        try:
            disk_usage.measure(root, now)
            forecast = look_at(root, now)
            found += forecast is not None and forecast.alarm_since is not None
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one bad root must not stop the others
            logger.exception("how the disk of %s fills up could not be told", root)
    return found


def look_at(root: StagingRoot, now: datetime) -> DiskForecast | None:
    """Foresee one disk by its stored measurements, store that, and begin, tell or end its alarm.

    None, and nothing changes, without a measurement of the last half hour.
    """
    fill = disk_pace.fill_of_root(root, now)
    if fill is None or disk_alarm.is_outdated(fill, now):
        return None
    forecast = _keep(root, fill)
    mark = AlarmMark(root.alarm_percent, root.alarm_hours)
    was = DiskAlarm(on=forecast.alarm_since is not None, foreseen=forecast.foreseen)
    alarm = disk_alarm.next_alarm(fill, mark, now, was)
    if alarm.foreseen != was.foreseen:
        forecast.foreseen = alarm.foreseen
        forecast.save(update_fields=["foreseen"])
    if alarm.on:
        _tell(forecast, fill, now)
    else:
        _end(forecast, now)
    return forecast


def fill_of(forecast: DiskForecast) -> MeasuredFill:
    """What was foreseen, as the rules know it."""
    return MeasuredFill(
        at=forecast.at,
        total_bytes=forecast.total_bytes,
        free_bytes=forecast.free_bytes,
        bytes_an_hour=forecast.bytes_an_hour,
    )


def say(fill: MeasuredFill, now: datetime) -> str:
    """`Full at about 18:00`, or `Nearly full` if the hour is not known."""
    if fill.free_bytes <= 0:
        return "The disk is full"
    if fill.full_at is None:
        return "Nearly full"
    said = disk_alarm.say_full(fill.full_at, now, evening_mail.zone())
    return f"{said[0].upper()}{said[1:]}"


def say_figures(fill: MeasuredFill) -> str:
    """`82 % used, 180 GB of 1.0 TB free, about 52 GB arrive an hour`."""
    said = f"{disk_alarm.say_percent(fill)}, {say_about(max(fill.free_bytes, 0))} of {say_about(fill.total_bytes)} free"
    if fill.bytes_an_hour is not None and fill.bytes_an_hour > 0:
        said += f", about {say_about(round(fill.bytes_an_hour))} arrive an hour"
    return said


def safe(runs: RunQuerySet, root: StagingRoot) -> AnnouncedAmount:
    """Of some runs those on a root that are safe to clear; bytes are logical."""
    clearable = runs.here().filter(root=root, tone=Status.GO).order_by()
    found: dict[str, Any] = clearable.aggregate(number=Count("pk"), size=bytes_sum("bytes", default=0))
    return AnnouncedAmount(runs=found["number"], bytes=int(found["size"]))


def _keep(root: StagingRoot, fill: MeasuredFill) -> DiskForecast:
    known = {
        "at": fill.at,
        "total_bytes": fill.total_bytes,
        "free_bytes": fill.free_bytes,
        "bytes_an_hour": None if fill.bytes_an_hour is None else round(fill.bytes_an_hour),
        "full_at": fill.full_at,
    }
    forecast, _new = DiskForecast.objects.update_or_create(root=root, defaults=known)
    forecast.root = root
    return forecast


def _tell(forecast: DiskForecast, fill: MeasuredFill, now: datetime) -> None:
    root = forecast.root
    alert = alerts.open_alert(
        AlertKind.DISK,
        _subject(root),
        reason=Reason.DISK_NEARLY_FULL,
        now=now,
        detail=f"{say(fill, now)}: {say_figures(fill)}.",
        root=root,
    )
    if forecast.alarm_since != alert.since:
        forecast.alarm_since, forecast.mailed_at, forecast.mails, forecast.mail_problem = alert.since, None, 0, ""
        forecast.save(update_fields=["alarm_since", "mailed_at", "mails", "mail_problem"])
    if settings.EXLAB_EMAIL and forecast.mailed_at is None:
        _mail(forecast, fill, now)


def _end(forecast: DiskForecast, now: datetime) -> None:
    alerts.end_alert(AlertKind.DISK, _subject(forecast.root), now=now)
    if forecast.alarm_since is not None:
        forecast.alarm_since = None
        forecast.save(update_fields=["alarm_since"])


def _subject(root: StagingRoot) -> str:
    return f"disk:{root.pk}"


def _mail(forecast: DiskForecast, fill: MeasuredFill, now: datetime) -> None:
    """One process of all sends it. If none could be sent, the next look tries again."""
    mine = DiskForecast.objects.filter(pk=forecast.pk, alarm_since=forecast.alarm_since)
    if not mine.filter(mailed_at=None).update(mailed_at=now):
        return
    forecast.mailed_at = now
    messages = list(_messages(forecast.root, fill, now))
    sent = mails.send_all(messages, about=f"the mail about the disk of {forecast.root}")
    problem = sent.problem or ("" if messages else "no user who may make room here has an address")
    if sent.problem and not sent.number:
        forecast.mailed_at = None
    forecast.mails, forecast.mail_problem = sent.number, problem
    mine.update(mailed_at=forecast.mailed_at, mails=sent.number, mail_problem=problem)


def _messages(root: StagingRoot, fill: MeasuredFill, now: datetime) -> Iterator[EmailMessage]:
    for user in get_user_model().objects.filter(is_active=True).exclude(email="").order_by("pk"):
        if _may_act(user, root):
            said = say(fill, now)
            yield EmailMessage(
                f"{root.name}: {said[0].lower()}{said[1:]}", _text(user, root, fill, now), to=[user.email]
            )


def _may_act(user: User, root: StagingRoot) -> bool:
    """Whether a user sees the root and may act for a run on it."""
    seen = permissions.roots(user).filter(pk=root.pk).exists()
    return seen and any(
        user.has_perm(permission) and permissions.roots(user, permission).filter(pk=root.pk).exists()
        for permission in _MAY_ACT
    )


def _text(user: User, root: StagingRoot, fill: MeasuredFill, now: datetime) -> str:
    lines = [f"Staging root {root.name} on {root.host}, {root.path}", "", f"{say(fill, now)}.", f"{say_figures(fill)}."]
    amount = safe(permissions.runs(user, permissions.CLEAR), root) if user.has_perm(permissions.CLEAR) else None
    if amount is None:
        lines += ["", "You may clear no runs there; an operator can."]
    elif amount.runs:
        said = f"Safe to clear now, and yours to clear: {evening_mail.say_amount(amount)}."
        lines += ["", said, f"See them first, and choose: {links.in_mail(links.make_room(root))}"]
    else:
        said = "No run there is safe to clear just now. See what the others wait for: "
        lines += ["", f"{said}{links.in_mail('/problems/')}"]
    footer = f"Times are those of {timezone.get_default_timezone_name()}; sizes of runs are logical."
    return "\n".join([*lines, "", f"This is told once, until the disk has room again. {footer}", ""])
