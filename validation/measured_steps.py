"""How long single steps of a measured run took, where its time stamps tell.

Every stamp of an engine core is the end of a step: a schedule, a first token, a last token. Between two stamps that
follow each other closely, with no prompt under way, lies a small whole number of pure decode steps.

vLLM with async scheduling has two batches in flight: what is scheduled at s is computed after the batch that was
launched before. So first token - s is the time of that batch and of the own one. Where the batch before had no prompt,
it is a pure decode step, whose time the profile knows best; what is left is the time of a step with that prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engines.protocol import StepTime
from validation.cases.case import RunCase

_SAME_S: Final = 1e-3
_PS_PER_MS: Final = 1e9
BINS: Final = (0, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 2048)
"""Tokens of a step with prompts, upper edges included: matrix products take tiles of tokens."""
_FEWEST: Final = 3
"""Steps that a row must have."""
_WIDEST: Final = 0.1
"""Between the ratios of a row; others say nothing of a step's time."""
DECODE_BINS: Final = (0, 8, 16, 32, 40, 48, 56, 64, 80, 96, 112, 128, 192, 256)
"""Decoding requests of a step, upper edges included."""
_MOST_STEPS: Final = 6
"""Steps between two stamps that can be counted: an error of the profile of up to 8 % does not change the number."""


def decode_steps(case: RunCase) -> pd.DataFrame:
    """Pure decode steps between two stamps, and the profile's time for them.

    Returns:
        A row per pair of stamps: decodes, measured_ms and profile_ms of one step.
    """
    step_time = case.deployment.plan.step_time.step_time
    measured = case.measured
    scheduled, first = (measured[name].to_numpy(float) for name in ("scheduled_s", "first_token_s"))
    last = measured["arrival_s"].to_numpy(float) + measured["e2e_ms"].to_numpy(float) / 1e3
    inputs, outputs = _lengths(case)
    stamps = np.unique(np.concatenate([scheduled, first, last]).round(4))
    rows = []
    for since_s, until_s in pairwise(stamps.tolist()):
        middle_s = (since_s + until_s) / 2
        running = (first <= middle_s) & (last > middle_s)
        prompts = (scheduled < middle_s) & (first > middle_s)
        if prompts.any() or not running.any():
            continue
        done = (middle_s - first[running]) / (last[running] - first[running]) * (outputs[running] - 1)
        profile_ms = _profile_ms(step_time, inputs[running] + done)
        steps = round((until_s - since_s) * 1e3 / profile_ms)
        if 1 <= steps <= _MOST_STEPS:
            rows.append((int(running.sum()), (until_s - since_s) * 1e3 / steps, profile_ms))
    return pd.DataFrame(rows, columns=["decodes", "measured_ms", "profile_ms"])


def _lengths(case: RunCase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return (
        np.array([request.input_tokens for request in case.requests]),
        np.array([request.output_tokens for request in case.requests]),
    )


def steps_with_prompts(case: RunCase, cached_tokens: pd.Series) -> pd.DataFrame:
    """Steps that computed whole prompts behind a pure decode step, and the profile's time for the same steps.

    Args:
        case: with scheduled_s and first_token_s measured; async scheduling.
        cached_tokens: of each request, found in the prefix cache.

    Returns:
        A row per step: prompt_tokens, step_tokens, decodes, measured_ms, profile_ms.
    """
    step_time = case.deployment.plan.step_time.step_time
    measured = case.measured
    scheduled, first = (measured[name].to_numpy(float) for name in ("scheduled_s", "first_token_s"))
    last = measured["arrival_s"].to_numpy(float) + measured["e2e_ms"].to_numpy(float) / 1e3
    inputs, outputs = _lengths(case)
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
        prompts = [(int(inputs[i] - cached[i]), int(cached[i])) for i in together]
        rows.append(_row(step_time, inputs[running] + done, prompts, float(first[together].max() - since_s)))
    return pd.DataFrame(
        rows, columns=["prompt_tokens", "step_tokens", "decodes", "measured_ms", "profile_ms"]
    )


def _row(
    step_time: StepTime, contexts: NDArray[np.float64], prompts: list[tuple[int, int]], both_s: float
) -> tuple[int, int, int, float, float]:
    before_ms = _profile_ms(step_time, contexts)
    profile_ms = _profile_ms(step_time, contexts + 1, prompts)
    tokens = sum(tokens for tokens, _ in prompts)
    return tokens, tokens + len(contexts), len(contexts), both_s * 1e3 - before_ms, profile_ms


def _profile_ms(
    step_time: StepTime, contexts: NDArray[np.float64], prompts: Sequence[tuple[int, int]] = ()
) -> float:
    """The profile's time of a step that decodes behind these contexts, beside prompts."""
    total = int(contexts.sum())
    spread = max(int(len(contexts) * contexts.max()) - total, 0)
    return step_time.step_ps(len(contexts), total, prompts, spread) / _PS_PER_MS


def shortest_half(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which half of the values lies closest together (Rousseeuw and Leroy 1988, the shorth)."""
    order = np.argsort(values, kind="stable")
    half = len(values) // 2 + 1
    ordered = values[order]
    first = int(np.argmin(ordered[half - 1 :] - ordered[: len(values) - half + 1]))
    inside = np.zeros(len(values), dtype=np.bool_)
    inside[order[first : first + half]] = True
    return inside


def summary(steps: pd.DataFrame, column: str, bins: Sequence[int]) -> list[dict[str, Any]]:
    """Difference and ratio of measured to profile, by bins of a column that are not nearly empty.

    Medians of the half of the steps whose ratios lie closest together: some steps compute a preempted request's prompt
    again, of which no stamp tells.
    """
    found = []
    for low, high in pairwise(bins):
        mine = steps[(steps[column] > low) & (steps[column] <= high)]
        if len(mine) < _FEWEST:
            continue
        ratios = (mine["measured_ms"] / mine["profile_ms"]).to_numpy(float)
        inside = shortest_half(ratios)
        if np.ptp(ratios[inside]) > _WIDEST:
            continue
        half = mine[inside]
        found.append(
            {
                column: f"{low + 1} to {high}",
                "steps": len(mine),
                "median_decodes": float(half["decodes"].median()),
                "profile_ms": float(half["profile_ms"].median()),
                "measured_less_profile_ms": float((half["measured_ms"] - half["profile_ms"]).median()),
                "measured_per_profile": float((half["measured_ms"] / half["profile_ms"]).median()),
            }
        )
    return found
