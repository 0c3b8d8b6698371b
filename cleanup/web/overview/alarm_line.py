"""The first line of a card whose disk is nearly full."""

from dataclasses import dataclass
from datetime import datetime

from cleanup.models import StagingRoot
from cleanup.monitoring import disk_alarms, links


@dataclass(frozen=True, kw_only=True)
class AlarmLine:
    """What a task found when it looked last, at `at`."""

    at: datetime
    words: str
    figures: str
    full_at: datetime | None
    percent: float
    make_room: str
    unsent: str = ""

    @property
    def urgency(self) -> tuple[bool, datetime, float]:
        """Full first comes first; without a forecast the fuller one."""
        return self.full_at is None, self.full_at or self.at, -self.percent


def of_root(root: StagingRoot, now: datetime) -> AlarmLine | None:
    """The line of a root that was read with its forecast; None if its disk is not alarming."""
    forecast = getattr(root, "disk_forecast", None)
    if forecast is None or forecast.alarm_since is None:
        return None
    fill = disk_alarms.fill_of(forecast)
    return AlarmLine(
        at=fill.at,
        words=disk_alarms.say(fill, now),
        figures=disk_alarms.say_figures(fill),
        full_at=fill.full_at,
        percent=fill.percent,
        make_room=links.make_room(root),
        unsent=forecast.mail_problem,
    )
