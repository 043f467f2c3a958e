"""The steady state of an engine with step times that can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from simulator.autoscaling.engine_rate import EngineLimits, best_rate
from simulator.units import PS_PER_S


class Times:
    """10 ms a step, 1 ms a decode, 0.1 ms a prompt token; the host takes nothing."""

    def step_ps(
        self, decode_requests: int, decode_context_tokens: int, prefills: Sequence[tuple[int, int]]
    ) -> int:
        tokens = sum(chunk for chunk, _ in prefills)
        return round((0.010 + 0.001 * decode_requests + 0.0001 * tokens) * PS_PER_S)

    def host_ps(self, scheduled_requests: int) -> int:
        return 0

    def decode_terms(self, decode_requests: int) -> tuple[int, int]:
        raise NotImplementedError


def rate(limits: EngineLimits, itl_s: float = math.inf, ttft_s: float = math.inf) -> float:
    return best_rate(Times(), limits, 100.0, 100.0, ttft_s, itl_s)


LIMITS = EngineLimits(max_num_seqs=50, max_num_batched_tokens=1000, kv_tokens=10**6)


def test_rate_is_batch_over_output_times_step() -> None:
    # As many prompt tokens as decodes: a step of b takes 10 + 1.1 b ms, best with the largest b.
    assert rate(LIMITS) == pytest.approx(50 / (100 * 0.065))


def test_itl_bounds_the_batch() -> None:
    # 10 + 1.1 b ≤ 43 ms: b = 30.
    assert rate(LIMITS, itl_s=0.0431) == pytest.approx(30 / (100 * 0.043))


def test_ttft_bounds_the_batch() -> None:
    # A step of b, then one with the whole prompt: 10 + 1.1 b + 10 + b + 10 ≤ 72 ms: b = 20.
    assert rate(LIMITS, ttft_s=0.0721) == pytest.approx(20 / (100 * 0.032))


def test_kv_cache_and_token_budget_bound_the_batch() -> None:
    assert rate(EngineLimits(50, 1000, 2000)) == pytest.approx(10 / (100 * 0.021))
    assert rate(EngineLimits(50, 20, 10**6)) == pytest.approx(10 / (100 * 0.021))


def test_nothing_meets_an_impossible_limit() -> None:
    assert rate(LIMITS, itl_s=0.001) == 0.0
