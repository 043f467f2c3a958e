"""KEDA's cron trigger: so many replicas between a start and an end schedule of a time zone. Pure.

Source: kedacore/keda@8b4f083c, pkg/scalers/cron_scaler.go: the value is ``desiredReplicas`` inside the interval and 0
outside, against a target of 1 per replica; inside is where the next end comes before the next start.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from simulator.units import PS_PER_S

_FIELDS: Final = 5


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """An interval that comes back.

    Attributes:
        start: five-field cron expression of its beginning.
        end: likewise of its end.
        timezone: IANA name.
        replicas: desiredReplicas.

    Raises:
        ValueError: not a cron expression, not a time zone, or start and end are the same.
    """

    start: str
    end: str
    timezone: str
    replicas: int

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("start and end are the same schedule")
        for expression in (self.start, self.end):
            try:
                if len(expression.split()) != _FIELDS:
                    raise ValueError(f"expected a cron expression of {_FIELDS} fields, not {expression!r}")
                CronSim(expression, datetime(2024, 1, 1))
            except CronSimError as error:
                raise ValueError(f"not a cron expression: {expression!r} ({error})") from None
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"not an IANA time zone: {self.timezone!r}") from None


@lru_cache(maxsize=4096)
def _next(expression: str, timezone: str, minute: datetime) -> datetime:
    return next(CronSim(expression, minute.astimezone(ZoneInfo(timezone))))


def is_inside(schedule: CronSchedule, at: datetime) -> bool:
    """Whether an instant (with a time zone) lies in the interval."""
    minute = at.replace(second=0, microsecond=0)
    start = _next(schedule.start, schedule.timezone, minute)
    end = _next(schedule.end, schedule.timezone, minute)
    return end <= start


def value(schedule: CronSchedule, started_at: datetime, now: int) -> float:
    """The trigger's value.

    Args:
        schedule: the trigger.
        started_at: wall-clock time at the run's time 0.
        now: time of the run in picoseconds.
    """
    at = started_at + timedelta(seconds=now / PS_PER_S)
    return float(schedule.replicas) if is_inside(schedule, at) else 0.0
