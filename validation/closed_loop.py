"""Replays closed-loop points and holds them against what was measured."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from validation.cases.case import describe
from validation.cases.silicon import (
    Point,
    PointSetting,
    disbelieved,
    is_inferencemax,
    name_of,
    requests,
    resolve,
)
from validation.deployment import Deployment
from validation.single_replica import replay

AISIMULATE: Final = {"ttft_ms": 17.1, "tpot_ms": 8.9}
"""MAPE that NVIDIA states for AISimulate on vLLM points of this collection."""

BARS: Final = {"ttft_ms": 12.0, "tpot_ms": 6.0}


def judge_points(setting: PointSetting, points: list[Point]) -> dict[str, Any]:
    """The figures of a group of points; those that are not believed are listed and left out of the errors."""
    figures: dict[str, Any] = {
        "case": name_of(setting),
        "kind": "closed loop",
        "title": f"{setting.model.rsplit('/', 1)[-1]} {setting.dtype}, {setting.tp} x {setting.gpu}",
        "source": "PyPI aiconfigurator-core 0.12.0, systems/silicon_sample.csv; Apache-2.0",
        "notes": [
            "engine version and statistic are not stated: means are compared, medians given beside",
            "client and server as InferenceMAX's README has them"
            if is_inferencemax(setting)
            else "client and server unknown: equal lengths, vLLM's defaults",
            "KV cache taken in 16 bits; a checkpoint of ModelOpt may ask newer releases for 8, which the points do "
            "not state",
        ],
    }
    judged: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for point in points:
        at: dict[str, Any] = {"input_tokens": point.input_tokens, "output_tokens": point.output_tokens}
        at |= {"concurrency": point.concurrency}
        deployment = resolve(setting, point)
        why = deployment if isinstance(deployment, str) else disbelieved(point, setting)
        if isinstance(deployment, str) or why is not None:
            left_out.append({**at, "why": why})
            continue
        figures.setdefault("deployment", describe(deployment))
        judged.append({**at, **_errors(deployment, point, setting)})
    figures |= {"points": judged, "left_out": left_out}
    if judged:
        figures["groups"] = {"all": _summary(judged)}
        figures["bars"] = [
            {
                "figure": f"all.{metric}.mape_pct",
                "at_most": at_most,
                "reached": figures["groups"]["all"][metric]["mape_pct"],
            }
            for metric, at_most in (BARS if has_bars(setting) else {}).items()
        ]
        if has_bars(setting):
            figures["published"] = {
                "NVIDIA AISimulate": {"all": {m: {"mape_pct": e} for m, e in AISIMULATE.items()}}
            }
    return figures


def has_bars(setting: PointSetting) -> bool:
    """Llama-3.1-70B FP8 on H100 TP 2 and 4 and H200 TP 1, 2 and 4."""
    degrees = {"H100-SXM": (2, 4), "H200-SXM": (1, 2, 4)}.get(setting.gpu, ())
    return is_inferencemax(setting) and setting.dtype == "fp8" and setting.tp in degrees


def _errors(deployment: Deployment, point: Point, setting: PointSetting) -> dict[str, Any]:
    replayed = replay(
        deployment.plan, requests(point, setting), concurrency=point.concurrency, sample_s=3600.0
    )
    found: dict[str, Any] = {}
    for metric, measured in (("ttft_ms", point.ttft_ms), ("tpot_ms", point.tpot_ms)):
        values = replayed.requests[metric].to_numpy(float)
        mean, median = float(np.nanmean(values)), float(np.nanmedian(values))
        # Errors only: the measured values are the collection's to publish.
        found[metric] = {
            "error_pct": 100 * (mean / measured - 1.0),
            "error_of_median_pct": 100 * (median / measured - 1.0),
        }
    return found


def _summary(judged: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"points": len(judged)}
    for metric in ("ttft_ms", "tpot_ms"):
        errors = np.array([point[metric]["error_pct"] for point in judged])
        medians = np.array([point[metric]["error_of_median_pct"] for point in judged])
        summary[metric] = {
            "mape_pct": float(np.mean(np.abs(errors))),
            "median_ape_pct": float(np.median(np.abs(errors))),
            "bias_pct": float(np.median(errors)),
            "mape_of_medians_pct": float(np.mean(np.abs(medians))),
        }
    return summary
