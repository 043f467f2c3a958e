"""How long single steps of a measured run took, where its time stamps tell.

vLLM with async scheduling has two batches in flight: what is scheduled at s is computed after the batch that was
launched before. So first token - s is the time of that batch and of the own one. Where the batch before had no prompt,
it is a pure decode step, whose time the profile knows best; what is left is the time of a step with that prompt.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from simulator.engines.protocol import StepTime
from validation.cases.case import RunCase

_SAME_S: Final = 1e-3
_PS_PER_MS: Final = 1e9
BINS: Final = (0, 512, 1024, 2048)
"""Prompt tokens of a step, upper edges included."""


def steps_with_prompts(case: RunCase, cached_tokens: pd.Series) -> pd.DataFrame:
    """Steps that computed whole prompts behind a pure decode step, and the profile's time for the same steps.

    Args:
        case: with scheduled_s and first_token_s measured; async scheduling.
        cached_tokens: of each request, found in the prefix cache.

    Returns:
        A row per step: prompt_tokens, decodes, measured_ms, profile_ms.
    """
    step_time = case.deployment.plan.step_time.step_time
    measured = case.measured
    scheduled, first = (measured[name].to_numpy(float) for name in ("scheduled_s", "first_token_s"))
    last = measured["arrival_s"].to_numpy(float) + measured["e2e_ms"].to_numpy(float) / 1e3
    inputs = np.array([request.input_tokens for request in case.requests])
    outputs = np.array([request.output_tokens for request in case.requests])
    cached = cached_tokens.fillna(0).to_numpy(int)
    budget = case.deployment.plan.engine.max_num_batched_tokens
    rows = []
    for at_s in np.unique(scheduled.round(3)):
        together = np.flatnonzero(np.abs(scheduled - at_s) <= _SAME_S)
        since_s = scheduled[together].min()
        before = (scheduled < since_s - _SAME_S) & (first > since_s + _SAME_S)
        running = (first <= since_s + _SAME_S) & (last > since_s)
        tokens = int((inputs - cached)[together].sum())
        if before.any() or not running.any() or np.ptp(first[together]) > _SAME_S:
            continue
        if tokens + running.sum() > budget:
            continue
        done = (since_s - first[running]) / (last[running] - first[running]) * (outputs[running] - 1)
        context = int((inputs[running] + done).sum())
        prompts = [(int(inputs[i] - cached[i]), int(cached[i])) for i in together]
        rows.append(
            _row(step_time, int(running.sum()), context, prompts, float(first[together].max() - since_s))
        )
    return pd.DataFrame(rows, columns=["prompt_tokens", "decodes", "measured_ms", "profile_ms"])


def _row(
    step_time: StepTime, decodes: int, context: int, prompts: list[tuple[int, int]], both_s: float
) -> tuple[int, int, float, float]:
    before_ms = step_time.step_ps(decodes, context, ()) / _PS_PER_MS
    profile_ms = step_time.step_ps(decodes, context + decodes, prompts) / _PS_PER_MS
    return sum(tokens for tokens, _ in prompts), decodes, both_s * 1e3 - before_ms, profile_ms


def summary(steps: pd.DataFrame) -> list[dict[str, Any]]:
    """Median difference and ratio of measured to profile, by prompt tokens of the step."""
    found = []
    for low, high in pairwise(BINS):
        mine = steps[(steps["prompt_tokens"] > low) & (steps["prompt_tokens"] <= high)]
        if mine.empty:
            continue
        found.append(
            {
                "prompt_tokens": f"{low + 1} to {high}",
                "steps": len(mine),
                "decodes": float(mine["decodes"].median()),
                "profile_ms": float(mine["profile_ms"].median()),
                "measured_less_profile_ms": float((mine["measured_ms"] - mine["profile_ms"]).median()),
                "measured_per_profile": float((mine["measured_ms"] / mine["profile_ms"]).median()),
            }
        )
    return found
