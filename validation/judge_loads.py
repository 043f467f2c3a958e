"""Judges the validation loads of one captured engine: each load, its noise, all by regime, and the single steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from calibration.capture_format import Capture, CaptureError
from validation.captured_load import captured_replica, load_rows
from validation.cases import captures
from validation.cases.case import describe_replica
from validation.cases.regimes import REGIMES
from validation.judge import errors, group_errors, replay_case
from validation.plots import save_plot
from validation.step_errors import step_errors


def judge_loads(name: str, capture: Capture, engine: int, plots: Path | None) -> dict[str, Any]:
    """The figures of an engine's validation loads.

    Args:
        name: of the case.
        capture: what was run.
        engine: position among its engines.
        plots: folder for a plot of each load; none are drawn if None.
    """
    manifest = capture.manifest
    facts = manifest.engines[engine]
    mine = captures.loads(capture)[engine]
    figures: dict[str, Any] = {
        "case": name,
        "kind": "loads",
        "title": f"{manifest.gpu}, {facts.model.rsplit('/', 1)[-1]}, vLLM {manifest.versions['vllm']}, "
        f"engine {facts.name}",
        "source": f"own capture of {manifest.created[:10]}, plan {manifest.plan}",
        "notes": [],
        "groups": {},
        "bars": [],
    }
    try:
        replica = captured_replica(capture, engine)
    except CaptureError as error:
        # A machine of which no step times are known: what was measured is shown, nothing is predicted.
        reason = str(error).split(f"engine {facts.name}: ")[-1].split(";")[0]
        figures["notes"] = [f"not predicted: {reason}"]
        figures["loads"] = [_told(capture, load) for load in mine]
        figures["requests"] = sum(load["requests"] for load in figures["loads"])
        return figures
    figures["deployment"] = {
        "model": facts.model,
        "gpu": manifest.gpu,
        "tp": facts.tp,
        "dtype": facts.quantisation or facts.dtype,
        **describe_replica(replica, "the engine's own report"),
    }
    judged, pooled = [], []
    for load in mine:
        case = captures.load_case(capture, load)
        replayed = replay_case(case)
        if plots is not None:
            save_plot(plots / f"{name}--{case.name}.png", case, replayed)
        found = errors(case, replayed)
        counts = case.regimes.value_counts()
        judged.append(
            _told(capture, load)
            | {
                "met": {regime: int(counts[regime]) for regime in REGIMES if regime in counts},
                "error": found["groups"]["all"],
                "aggregate": found["aggregate"],
                **({"timeline": found["timeline"]} if "timeline" in found else {}),
            }
        )
        figures["bars"] += [
            bar | {"figure": bar["figure"].replace("all.", f"{case.name}.", 1)} for bar in found["bars"]
        ]
        masks = pd.DataFrame({"regime": case.regimes, "unqueued": False} | case.groups)
        pooled.append((replayed.requests, case.measured, masks))
    figures["requests"] = sum(load["requests"] for load in judged)
    figures["loads"] = judged
    figures["groups"] = _groups(pooled)
    figures["steps"] = step_errors(capture, engine, replica.step_time.profile)
    return figures


def _told(capture: Capture, load: captures.Load) -> dict[str, Any]:
    """What a load is, without its prediction."""
    noise = captures.noise(capture, load)
    return {
        "load": load.stage.name,
        "planned": load.stage.regime,
        "requests": len(load_rows(capture, load.number)),
        **({} if noise is None else {"again": noise[0], "noise": noise[1]}),
    }


def _groups(pooled: list[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """Errors over the requests of all loads, by the regime that each met."""
    predicted, measured, masks = (pd.concat(parts, ignore_index=True) for parts in zip(*pooled, strict=True))
    groups = {"all": pd.Series(True, index=masks.index), "unqueued": masks["unqueued"]}
    groups |= {regime: masks["regime"] == regime for regime in REGIMES}
    return {
        name: group_errors(predicted, measured, mask)
        for name, mask in groups.items()
        if name == "all" or mask.any()
    }
