"""How well a capture determines a profile's coefficients.

By the Bayesian bootstrap (Rubin 1981): the fit is repeated with random exponential weights on its cells, which
does what drawing cells with replacement does, but leaves no knot without any cell. What the model itself gets
wrong shows in no resampling; it is taken from the bias on held-out cells and kept as one common factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from calibration.captured_steps import Floats
from calibration.host_fit import HostModel
from calibration.step_model import StepModel
from simulator.step_time.profile import TermGroup, Terms, Uncertainty

REPLICATES: Final = 60
_SEED: Final = 20240501
_GROUPS: Final[dict[TermGroup, tuple[str, ...]]] = {
    "dense": ("dense", "per_sequence"),
    "decode_attention": ("decode_base", "decode_context"),
    "prefill_attention": ("launch", "prefill_context"),
    "mixed_attention": ("mixed_base", "mixed_context"),
}
_COEFFICIENTS: Final = (
    ("dense", "us"),
    ("per_sequence", "us"),
    ("decode_attention", "base_us"),
    ("decode_attention", "per_context_token_ns"),
    ("prefill_attention", "base_us"),
    ("prefill_attention", "per_context_token_ns"),
    ("mixed_attention", "base_us"),
    ("mixed_attention", "per_context_token_ns"),
)


def uncertainty_of(
    model: StepModel,
    columns: Floats,
    times: Floats,
    weight: Floats,
    solution: Floats,
    huber: Floats,
    host: HostModel,
    terms: Callable[[Floats], Terms],
    held_out_bias: Sequence[float],
) -> Uncertainty:
    """Covariance of the groups of terms, and standard errors of single coefficients.

    Args:
        model: of the fit.
        columns: of the cells that it was fitted on.
        times: of these cells, us.
        weight: of these cells.
        solution: coefficients of the fit.
        huber: the cells' final Huber weights.
        host: host times.
        terms: the profile's terms of a solution.
        held_out_bias: mean relative error on held-out cells, by regime.
    """
    rng = np.random.default_rng(_SEED)
    host_base = np.array(host.solve())
    typical = np.array([1.0, float(np.average(host.scheduled, weights=host.weight))])
    shares: list[list[float]] = []
    coefficients: list[list[Floats]] = []
    for _ in range(REPLICATES):
        drawn = rng.exponential(size=len(times))
        replicate, _ = model.solve(columns, times, weight * drawn, start=huber, rounds=1)
        hosted = np.array(host.solve(rng.exponential(size=len(host.scheduled))))
        shares.append(
            [_ratio(model, columns, times, replicate, solution, names) for names in _GROUPS.values()]
            + [float(hosted @ typical / max(host_base @ typical, 1e-9)) - 1.0]
        )
        coefficients.append([_values(terms(replicate), where) for where in _COEFFICIENTS])
    errors = [np.std(values, axis=0, ddof=1) for values in zip(*coefficients, strict=True)]
    covariance = np.cov(np.array(shares), rowvar=False)
    return Uncertainty(
        groups=[*_GROUPS, "host"],
        covariance=[[float(f"{value:.3g}") for value in row] for row in covariance],
        common_relative_error=round(float(np.sqrt(np.mean(np.square(held_out_bias)))), 5)
        if held_out_bias
        else 0.0,
        standard_errors={
            ".".join(where): [float(f"{value:.2g}") for value in error]
            for where, error in zip(_COEFFICIENTS, errors, strict=True)
        },
        source=f"Bayesian bootstrap over {len(times)} cells, {REPLICATES} replicates; common factor: root mean "
        "square of the regimes' bias on held-out cells",
    )


def _ratio(
    model: StepModel,
    columns: Floats,
    times: Floats,
    replicate: Floats,
    solution: Floats,
    names: Sequence[str],
) -> float:
    """Relative change of what some terms contribute to the cells, as a share of their time."""
    where = np.concatenate([np.arange(model.slices[name].start, model.slices[name].stop) for name in names])
    part = columns[:, where] / times[:, None]
    before = float((part @ solution[where]).sum())
    return float((part @ replicate[where]).sum()) / before - 1.0 if before > 0 else 0.0


def _values(terms: Terms, where: tuple[str, str]) -> Floats:
    value: Any = getattr(getattr(terms, where[0]), where[1])
    return np.asarray(value, dtype=np.float64).ravel()
