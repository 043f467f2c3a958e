"""Another profile that the same records might have given: coefficients drawn within their uncertainty.

The error of a profile is the same in every run with it, so it does not shrink with replications. An outer loop
over draws of the profile shows what it does to a result.

A profile that was fitted to steps states its uncertainty. One that was composed from kernels, or the roofline, does
not: there each group of terms gets the error of its regime on held-out rows, independently of the others, and a factor
common to all of them stands for what kernels timed alone do not show, as large as the error of time per token against
real runs (`validated`). Mean absolute errors are taken as those of a normal distribution: sqrt(pi / 2) gives the
standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any, Final

import numpy as np
from scipy.special import ndtri

from simulator.draws import Draws
from simulator.step_time.profile import ProfileError, StepTimeProfile, TermGroup, Uncertainty
from simulator.step_time.validated import typical_tpot_error

PURPOSE: Final = "step_time.perturbed"

_FIELDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "dense": (("dense", "us"), ("per_sequence", "us"), ("", "overhead_us"), ("", "eager_floor_us")),
    "decode_attention": (
        ("decode_attention", "base_us"),
        ("decode_attention", "per_context_token_ns"),
        ("decode_attention", "longest_context_ns"),
    ),
    "prefill_attention": (
        ("prefill_attention", "base_us"),
        ("prefill_attention", "per_context_token_ns"),
        ("prefill_attention", "launch_us"),
    ),
    "mixed_attention": (
        ("mixed_attention", "base_us"),
        ("mixed_attention", "per_context_token_ns"),
        ("mixed_attention", "above_knee_ns"),
        ("mixed_attention", "longest_context_ns"),
    ),
}
"""(part of the terms, field) that a group's factor scales."""


_GROUP_OF: Final[dict[str, TermGroup]] = {
    "dense": "dense",
    "pure_decode": "decode_attention",
    "pure_prefill": "prefill_attention",
    "mixed": "mixed_attention",
}
_SD_PER_MEAN: Final = sqrt(pi / 2)


def uncertainty_of(profile: StepTimeProfile) -> Uncertainty:
    """What the profile states, or what follows from its errors; see the module's text.

    Raises:
        ProfileError: nothing is known of its error.
    """
    if profile.uncertainty is not None:
        return profile.uncertainty
    common = typical_tpot_error(profile.name, profile.source)
    if common is None:
        raise ProfileError(f"profile {profile.name}: states no uncertainty, and none like it was validated")
    errors = {_GROUP_OF[fit.regime]: _SD_PER_MEAN * fit.mean_abs_pct / 100 for fit in profile.fit_error}
    groups: list[TermGroup] = list(errors) or ["dense"]
    spread = [errors.get(group, 0.0) for group in groups]
    return Uncertainty(
        groups=groups,
        covariance=np.diag(np.square(spread)).tolist(),
        common_relative_error=_SD_PER_MEAN * common[0],
        source=f"held-out errors of its regimes; common to all terms {common[1]}, {100 * common[0]:.1f} %",
    )


def draw_factors(profile: StepTimeProfile, draws: Draws, draw: int) -> dict[TermGroup, float]:
    """Factor of each group of terms in one draw.

    The factors are log-normal: near 1 the stated covariance, never negative.

    Args:
        profile: see `uncertainty_of`.
        draws: of the run.
        draw: number of the draw in the outer loop.

    Raises:
        ProfileError: nothing is known of the profile's error.
    """
    stated = uncertainty_of(profile)
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
        profile: see `uncertainty_of`.
        draws: of the run; the same (draws, draw) give the same profile.
        draw: number of the draw in the outer loop.

    Raises:
        ProfileError: nothing is known of the profile's error.
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
