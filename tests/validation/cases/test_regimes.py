"""Regimes follow from the load."""

import pandas as pd

from validation.cases.regimes import REGIMES, regimes, unqueued


def test_by_what_was_seen_before_the_schedule() -> None:
    timeline = pd.DataFrame(
        {"t_s": [1.0, 2.0, 3.0, 4.0], "running": [10, 60, 100, 40], "kv_usage": [0.1, 0.5, 0.6, 0.97]}
    )
    queue_ms = pd.Series([0.01, 0.01, 0.01, 500.0, 500.0, 500.0])
    scheduled_s = pd.Series([0.5, 1.5, 2.5, 3.5, 4.5, 2.5])
    found = regimes(queue_ms, scheduled_s, timeline, 100)
    assert list(found) == ["light", "light", "knee", "overload", "KV-starved", "knee"]
    assert set(found) <= set(REGIMES)
    assert list(unqueued(queue_ms)) == [True] * 3 + [False] * 3
