"""The worst moment of a run: when the first tokens came latest, and what the fleet looked like just then."""

from __future__ import annotations

from typing import Any

import pandas as pd

from simulator.metrics.distributions import number, ratio


def worst_moment(timeline: pd.DataFrame) -> dict[str, Any] | None:
    """State of the fleet in the interval with the highest TTFT p99.

    First tokens come late when a queue is already gone, so the queue and the load are also given as they
    were when these requests were sent: ``queued_when_sent`` and ``arrivals_per_s_when_sent`` are the
    highest in the TTFT before the interval's end.

    Returns:
        None if no first token ever came.
    """
    ttft = timeline["ttft_p99_s"]
    if not ttft.notna().any():
        return None
    row = timeline.iloc[int(ttft.argmax())]
    # The window holds the send and the wait of the slowest requests of this interval.
    began_s = row["t_s"] - row["interval_s"] - row["ttft_p99_s"]
    window = timeline[(timeline["t_s"] > began_s) & (timeline["t_s"] <= row["t_s"])]
    queued = window["gateway_queue"] + window["waiting"]
    return {
        "t_s": float(row["t_s"]),
        "ttft_p99_s": float(row["ttft_p99_s"]),
        "queued_when_sent": int(queued.max()),
        "arrivals_per_s_when_sent": number((window["arrivals"] / window["interval_s"]).max()),
        "arrivals_per_s_mean": ratio(float(timeline["arrivals"].sum()), float(timeline["interval_s"].sum())),
        "replicas_desired": int(window["replicas_desired"].max()),
        "replicas_provisioned": int(window["replicas_provisioned"].max()),
        "replicas_ready_min": int(window["replicas_ready"].min()),
        "kv_usage_max": number(window["kv_usage_max"].max()),
    }
