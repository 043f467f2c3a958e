"""KEDA's cron trigger."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from simulator.autoscaling.cron import CronSchedule, is_inside, value
from simulator.units import PS_PER_S as S

OFFICE = CronSchedule("0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", 6)
NIGHT = CronSchedule("0 22 * * *", "0 6 * * *", "UTC", 3)


@pytest.mark.parametrize(
    ("at", "inside"),
    [
        ("2026-01-05T06:59:59", False),  # Monday; Berlin is one hour ahead in winter
        ("2026-01-05T07:00:00", True),
        ("2026-01-05T16:59:59", True),
        ("2026-01-05T17:00:00", False),
        ("2026-01-10T10:00:00", False),  # Saturday
        ("2026-07-06T05:59:59", False),  # summer: two hours ahead
        ("2026-07-06T06:00:00", True),
    ],
)
def test_interval_in_its_time_zone(at: str, inside: bool) -> None:
    assert is_inside(OFFICE, datetime.fromisoformat(at).replace(tzinfo=UTC)) is inside


def test_interval_over_midnight() -> None:
    assert is_inside(NIGHT, datetime(2026, 1, 5, 23, tzinfo=UTC))
    assert is_inside(NIGHT, datetime(2026, 1, 5, 5, 59, tzinfo=UTC))
    assert not is_inside(NIGHT, datetime(2026, 1, 5, 6, tzinfo=UTC))


def test_value_follows_the_runs_clock() -> None:
    started = datetime(2026, 1, 5, 21, 59, tzinfo=UTC)
    assert value(NIGHT, started, 59 * S) == 0.0
    assert value(NIGHT, started, 60 * S) == 3.0


@pytest.mark.parametrize(
    ("start", "end", "zone", "reason"),
    [
        ("0 8 * * *", "0 8 * * *", "UTC", "same schedule"),
        ("0 8 * *", "0 9 * * *", "UTC", "5 fields"),
        ("0 99 * * *", "0 9 * * *", "UTC", "not a cron expression"),
        ("0 8 * * *", "0 9 * * *", "Mars/Olympus", "not an IANA time zone"),
    ],
)
def test_what_is_refused(start: str, end: str, zone: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CronSchedule(start, end, zone, 1)
