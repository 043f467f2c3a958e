from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.scenario.distributions import LognormalTime, LognormalTokens

Z95, Z99 = NormalDist().inv_cdf(0.95), NormalDist().inv_cdf(0.99)


@given(
    mu=st.floats(0.0, 8.0),
    sigma=st.floats(0.05, 1.5),
    pair=st.sampled_from(["mm", "m5", "99", "s", "ms", "md"]),
)
def test_two_figures_give_back_the_distribution(mu: float, sigma: float, pair: str) -> None:
    mean, median = math.exp(mu + sigma**2 / 2), math.exp(mu)
    p95, p99 = math.exp(mu + Z95 * sigma), math.exp(mu + Z99 * sigma)
    figures: dict[str, dict[str, Any]] = {
        "mm": {"mean": mean, "median": median},
        "m5": {"mean": mean, "p95": p95},
        "99": {"p95": p95, "p99": p99},
        "s": {"median": median, "sigma": sigma},
        "ms": {"mean": mean, "sigma": sigma},
        "md": {"median": median, "p99": p99},
    }
    found = LognormalTokens.model_validate(figures[pair]).mu_sigma()
    assert found == pytest.approx((mu, sigma), rel=1e-6, abs=1e-6)


def test_mean_and_p95_take_the_narrower_of_two_solutions() -> None:
    """Two sigmas give the same ratio of p95 to mean, on either side of 1.645; the smaller one is meant."""
    _, sigma = LognormalTokens(mean=100, p95=300).mu_sigma()
    assert 0 < sigma < Z95


def test_equal_figures_are_a_constant() -> None:
    assert LognormalTime(mean="3s", median="3s").mu_sigma() == (math.log(3), 0.0)  # type: ignore[arg-type]
