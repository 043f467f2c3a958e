"""Replays a case and holds it against what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from validation.cases.case import ReplayCase, RunCase, describe
from validation.comparison import Figures, compare, throughput
from validation.results import figure
from validation.single_replica import Replayed, replay


def replay_case(case: ReplayCase) -> Replayed:
    """The simulator's run of a case."""
    return replay(case.replica, case.requests, prefix_block_tokens=case.prefix_block_tokens)


def judge(case: RunCase, replayed: Replayed) -> dict[str, Any]:
    """The figures of a run: what it is, and its `errors`."""
    return {
        "case": case.name,
        "kind": "run",
        "title": case.title,
        "source": case.source,
        "deployment": describe(case.deployment),
        "notes": list(case.notes),
        "requests": len(case.requests),
        **errors(case, replayed),
    }


def errors(case: ReplayCase, replayed: Replayed) -> dict[str, Any]:
    """Errors over all requests and by regime, aggregates, what others published, and which bars are reached."""
    predicted, measured = replayed.requests, case.measured
    groups: dict[str, Any] = {"all": pd.Series(True, index=measured.index), **case.groups}
    groups |= {name: case.regimes == name for name in dict.fromkeys(case.regimes)}
    output_tokens = [request.output_tokens for request in case.requests]
    figures: dict[str, Any] = {
        "groups": {name: group_errors(predicted, measured, mask) for name, mask in groups.items()},
        "aggregate": {
            "measured": throughput(measured, output_tokens) | {"preemptions": case.preemptions},
            "predicted": throughput(predicted, output_tokens)
            | {"preemptions": int(predicted["preemptions"].sum())},
        },
        "published": {
            who: {name: group_errors(theirs, measured, mask) for name, mask in groups.items()}
            for who, theirs in case.published.items()
        },
    }
    if case.timeline is not None:
        figures["timeline"] = timeline_errors(
            replayed.timeline, case.timeline, float(measured["arrival_s"].min())
        )
    figures["bars"] = [
        {"figure": bar.figure, "at_most": bar.at_most, "reached": figure(figures["groups"], bar.figure)}
        for bar in case.bars
    ]
    return figures


def group_errors(predicted: pd.DataFrame, measured: pd.DataFrame, mask: pd.Series) -> Figures:
    """Errors of some of the requests, and their number."""
    chosen = mask.to_numpy(bool)
    return {"requests": int(chosen.sum()), **compare(predicted[chosen], measured[chosen])}


def timeline_errors(predicted: pd.DataFrame, measured: pd.DataFrame, first_arrival_s: float) -> Figures:
    """Running and waiting requests, second by second.

    Args:
        predicted: with t_s counted from the first arrival.
        measured: with t_s on the run's clock.
        first_arrival_s: on that clock.
    """
    figures: Figures = {}
    at_s = measured["t_s"].to_numpy(float) - first_arrival_s
    for name in ("running", "waiting"):
        theirs = measured[name].to_numpy(float)
        ours = np.interp(at_s, predicted["t_s"].to_numpy(float), predicted[name].to_numpy(float), right=0.0)
        figures[name] = {
            "mean_abs_difference": float(np.mean(np.abs(ours - theirs))),
            "measured_mean": float(np.mean(theirs)),
            "measured_max": float(np.max(theirs)),
            "predicted_mean": float(np.mean(ours)),
            "predicted_max": float(np.max(ours)),
        }
    return figures
