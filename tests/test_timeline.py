"""Rows of the timeline against what the tables of single requests say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.timeline import _quantile
from tests.small import FAST_START, results


def test_rows_count_what_happened_in_their_interval(tmp_path: Path) -> None:
    tables = results(tmp_path, {"timeline_interval": "4s"}).tables
    timeline, requests = tables.timeline, tables.requests
    edges = np.concatenate([[0.0], timeline["t_s"]])
    completed = requests[requests["outcome"] == "completed"]
    for name, times in (
        ("arrivals", requests["arrival_s"]),
        ("attempts", tables.attempts["sent_s"]),
        ("completed", completed["end_s"]),
        ("slo_good", requests.loc[requests["slo_good"].fillna(False).astype(bool), "end_s"]),
    ):
        expected, _ = np.histogram(times, edges)
        assert (timeline[name].to_numpy() == expected).all(), name
    first = completed["arrival_s"] + completed["ttft_s"]
    row = timeline.iloc[3]
    own = completed.loc[(first > row["t_s"] - 4) & (first <= row["t_s"]), "ttft_s"]
    assert row["ttft_p50_s"] == pytest.approx(own.median())
    assert row["ttft_p99_s"] == pytest.approx(own.quantile(0.99))


def test_last_row_ends_with_the_run(tmp_path: Path) -> None:
    result = results(tmp_path, {"timeline_interval": "7s", "drain": "0s"})
    timeline = result.tables.timeline
    assert timeline["t_s"].iloc[-1] == 60.0
    assert timeline["interval_s"].iloc[-1] == pytest.approx(60 % 7)
    assert (timeline["interval_s"].iloc[:-1] == 7).all()


def test_without_replicas_gauges_are_unknown_and_not_zero(tmp_path: Path) -> None:
    timeline = results(tmp_path, {"fleet": {"replicas": 0}}).tables.timeline
    for name in (
        "gpu_utilization",
        "kv_usage_mean",
        "kv_usage_max",
        "batch_size_mean",
        "gpu_memory_used_bytes",
    ):
        assert timeline[name].isna().all()
    assert (timeline["running"] == 0).all()
    assert timeline["gateway_queue"].max() > 0


def test_a_process_that_was_stopped_was_busy_no_longer_than_it_lived(tmp_path: Path) -> None:
    """A node that vanishes in the middle of a step: the step's rest is no busy time."""
    pool = {"name": "s", "capacity": "spot", "usd_per_gpu_hour": 1, "provisioning": "2s"}
    reclaim = {"mean_time_between": "8s", "notice": "0s", "detection": "1s"}
    change = {
        "timeline_interval": "100ms",
        "cluster": {"pools": [{**pool, "reclaim": reclaim}], "cold_start": FAST_START},
        "workload": [
            {
                "name": "a",
                "arrivals": {"kind": "closed-loop", "users": 20},
                "lengths": {"kind": "fixed", "input": 500, "output": 100},
            }
        ],
    }
    result = results(tmp_path, change)
    assert result.summary["fleet"]["reclaims"] > 1
    assert result.tables.timeline["gpu_utilization"].max() <= 1 + 1e-12


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_the_quantile_is_numpys_to_the_last_bit(values: list[float], share: float) -> None:
    assert _quantile(sorted(values), share) == float(np.quantile(values, share))


def test_no_value_has_no_quantile() -> None:
    assert _quantile([], 0.5) is None
