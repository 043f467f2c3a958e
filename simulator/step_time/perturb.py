"""Another profile that the same records might have given: coefficients drawn within their uncertainty.

The error of a profile is the same in every run with it, so it does not shrink with replications. An outer loop
over draws of the profile shows what it does to a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.special import ndtri

from simulator.draws import Draws
from simulator.step_time.profile import ProfileError, StepTimeProfile, TermGroup

PURPOSE: Final = "step_time.perturbed"

_FIELDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "dense": (("dense", "us"), ("per_sequence", "us"), ("", "overhead_us"), ("", "eager_floor_us")),
    "decode_attention": (("decode_attention", "base_us"), ("decode_attention", "per_context_token_ns")),
    "prefill_attention": (
        ("prefill_attention", "base_us"),
        ("prefill_attention", "per_context_token_ns"),
        ("prefill_attention", "launch_us"),
    ),
    "mixed_attention": (
        ("mixed_attention", "base_us"),
        ("mixed_attention", "per_context_token_ns"),
        ("mixed_attention", "above_knee_ns"),
    ),
}
"""(part of the terms, field) that a group's factor scales."""


def draw_factors(profile: StepTimeProfile, draws: Draws, draw: int) -> dict[TermGroup, float]:
    """Factor of each group of terms in one draw.

    The factors are log-normal: near 1 the stated covariance, never negative.

    Args:
        profile: with an uncertainty.
        draws: of the run.
        draw: number of the draw in the outer loop.

    Raises:
        ProfileError: the profile does not state its uncertainty.
    """
    stated = profile.uncertainty
    if stated is None:
        raise ProfileError(f"profile {profile.name}: states no uncertainty to draw from")
    size = len(stated.groups)
    uniforms = [draws.uniform(PURPOSE, draw, attempt=word // 4, word=word % 4) for word in range(size + 1)]
    normals = ndtri(np.array(uniforms))
    # A symmetric root, not Cholesky's: rounding may have made the matrix slightly indefinite.
    values, vectors = np.linalg.eigh(np.array(stated.covariance))
    logs = vectors @ (np.sqrt(np.maximum(values, 0.0)) * normals[:size])
    common = stated.common_relative_error * normals[size]
    return {
        group: float(np.exp(log + (0.0 if group == "host" else common)))
        for group, log in zip(stated.groups, logs, strict=True)
    } | {
        group: float(np.exp(common))
        for group in ("dense", "decode_attention", "prefill_attention", "mixed_attention")
        if group not in stated.groups
    }


def perturbed(profile: StepTimeProfile, draws: Draws, draw: int) -> StepTimeProfile:
    """The profile of one draw: each group of terms times its factor.

    Args:
        profile: with an uncertainty.
        draws: of the run; the same (draws, draw) give the same profile.
        draw: number of the draw in the outer loop.

    Raises:
        ProfileError: the profile does not state its uncertainty.
    """
    factors = draw_factors(profile, draws, draw)
    data = profile.model_dump()
    for group, fields in _FIELDS.items():
        for part, key in fields:
            target = data["terms"][part] if part else data["terms"]
            if target[key] is not None:
                target[key] = _scaled(target[key], factors[group])  # type: ignore[index]
    host = factors.get("host", 1.0)
    for key in ("base_us", "per_request_us", "preparation_us"):
        if data["host"][key] is not None:
            data["host"][key] *= host
    data["name"] = f"{profile.name}, draw {draw}"
    data["known_error"] = f"draw {draw} of the coefficients of {profile.name}; {profile.known_error}"
    return StepTimeProfile.model_validate(data)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, Sequence):
        return [_scaled(item, factor) for item in value]
    return value * factor
