"""The single steps of a capture's validation loads against the profile, by what a load does to an engine.

Sweeps, which profiles are fitted to, repeat a few sizes without a pause. A load has sizes that the engine's process
has never computed, and pauses. So steps with prompts are told apart by both.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from calibration.capture_format import Capture
from calibration.captured_steps import CapturedStep, steps_of
from calibration.fit_report import StepPredictor
from simulator.step_time import StepTimeProfile
from validation.cases import captures

IDLE_US: Final = 10_000
"""Pause from which an engine counts as having been idle: some steps."""

_KINDS: Final = ("pure_decode", "mixed", "pure_prefill")


def step_errors(capture: Capture, engine: int, profile: StepTimeProfile) -> list[dict[str, Any]]:
    """Medians of measured against predicted step times, by kind of step.

    A step of an asynchronous engine is from output to output, with another in flight; of a synchronous one from
    launch to output.

    Returns:
        A row for each kind: ``kind`` (pure decode, mixed, pure prefill), ``new_size`` (the first step of the engine's
        process with so many tokens; None for decodes), ``after_idle`` (None unless pure prefill), ``steps``,
        ``profile_ms``, ``measured_less_profile_ms``, ``measured_per_profile`` (medians), ``mean_error_pct`` of the
        profile, and ``excess_s``, all that was measured less all that was predicted. Empty where no step was recorded.
    """
    steps = _table(capture, engine, profile)
    if steps.empty:
        return []
    rows = []
    for kind in _KINDS:
        of_kind = steps[steps["kind"] == kind]
        parts: list[tuple[bool | None, bool | None, pd.DataFrame]] = [(None, None, of_kind)]
        if kind != "pure_decode":
            parts = [(new, None, of_kind[of_kind["new_size"] == new]) for new in (False, True)]
        if kind == "pure_prefill":
            parts = [
                (new, idle, part[part["after_idle"] == idle])
                for new, _, part in parts
                for idle in (False, True)
            ]
        rows += [_row(kind, new, idle, part) for new, idle, part in parts if len(part)]
    return rows


def _row(kind: str, new: bool | None, idle: bool | None, steps: pd.DataFrame) -> dict[str, Any]:
    difference = steps["measured_ms"] - steps["profile_ms"]
    return {
        "kind": kind.replace("_", " "),
        "new_size": new,
        "after_idle": idle,
        "steps": len(steps),
        "profile_ms": float(steps["profile_ms"].median()),
        "measured_less_profile_ms": float(difference.median()),
        "measured_per_profile": float((steps["measured_ms"] / steps["profile_ms"]).median()),
        "mean_error_pct": 100 * float((steps["profile_ms"] / steps["measured_ms"] - 1.0).mean()),
        "excess_s": float(difference.sum()) / 1e3,
    }


def _table(capture: Capture, engine: int, profile: StepTimeProfile) -> pd.DataFrame:
    """A row per step of the engine's validation loads."""
    facts = capture.manifest.engines[engine]
    loads = {load.number for load in captures.loads(capture).get(engine, ())}
    predictor = StepPredictor(profile, facts.cudagraph_sizes)
    raw = capture.steps.to_pandas().sort_values(["engine", "step"])
    raw = raw[raw["engine"] == engine]
    pause_us = (raw["schedule_us"] - raw["update_us"].shift()).fillna(0).to_numpy()
    found: list[tuple[str, bool, bool, float, float]] = []
    sizes: set[int] = set()
    mine: list[CapturedStep] = [step for step in steps_of([capture]) if step.engine == engine]
    for step, pause in zip(mine, pause_us, strict=True):
        size = step.decodes + step.prefill_tokens
        new = size not in sizes
        sizes.add(size)
        if step.stage not in loads or not step.step_us:
            continue
        predicted_us = predictor.gpu_us(step) if facts.async_scheduling else predictor.step_us(step)
        found.append((step.regime, new, bool(pause >= IDLE_US), step.step_us / 1e3, predicted_us / 1e3))
    table = pd.DataFrame(found, columns=["kind", "new_size", "after_idle", "measured_ms", "profile_ms"])
    return table.astype({"measured_ms": np.float64, "profile_ms": np.float64})
