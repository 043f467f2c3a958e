from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.clients.retry import JITTER_PURPOSE, Retries, RetryBudget, backoff_s
from simulator.draws import Draws
from simulator.outcomes import Cause
from simulator.scenario.clients import Retry
from simulator.units import PS_PER_S, to_ps


@pytest.mark.parametrize(
    ("jitter", "u", "expected"),
    [
        ("none", 0.25, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
        ("full", 0.25, [0.125, 0.25, 0.5, 1.0, 1.25, 1.25]),
        ("equal", 0.5, [0.375, 0.75, 1.5, 3.0, 3.75, 3.75]),
    ],
)
def test_backoff_doubles_up_to_its_cap(jitter, u, expected):
    retry = Retry(initial_backoff=0.5, multiplier=2, max_backoff=5, jitter=jitter)
    assert [backoff_s(retry, number, u) for number in range(1, 7)] == expected


def test_backoff_of_a_huge_multiplier_is_the_cap():
    retry = Retry(initial_backoff=1, multiplier=1e30, max_backoff=5, jitter="none")
    assert backoff_s(retry, 20, 0.5) == 5


@pytest.mark.parametrize(
    ("cause", "retried"),
    [
        (Cause.GATEWAY_QUEUE_FULL, True),
        (Cause.ENGINE_QUEUE_FULL, True),
        (Cause.GATEWAY_QUEUE_TIMEOUT, True),
        (Cause.CUT_SPOT_RECLAIM, True),
        (Cause.TIMEOUT_TTFT, True),
        (Cause.TIMEOUT_REQUEST, False),
        (Cause.CONTEXT_LENGTH, False),
    ],
)
def test_what_is_retried(cause, retried):
    everything = Retry(on=["429", "503", "cut", "timeout"], budget=None)
    assert (Retries(everything, Draws(1)).next_send_ps(0, 1, cause, 0, None) is not None) is retried
    assert Retries(Retry(on=[], budget=None), Draws(1)).next_send_ps(0, 1, cause, 0, None) is None
    assert Retries(None, Draws(1)).next_send_ps(0, 1, cause, 0, None) is None


def test_jitter_is_addressed_by_request_and_attempt():
    retries = Retries(Retry(initial_backoff=1, budget=None), Draws(3))
    u = Draws(3).uniform(JITTER_PURPOSE, 17, 2)
    assert retries.next_send_ps(17, 2, Cause.GATEWAY_QUEUE_FULL, PS_PER_S, None) == PS_PER_S + to_ps(2 * u)


def test_max_attempts_counts_the_first_one():
    retries = Retries(Retry(max_attempts=3, budget=None), Draws(1))
    sends = [retries.next_send_ps(0, n, Cause.GATEWAY_QUEUE_FULL, 0, None) for n in (1, 2, 3)]
    assert [send is not None for send in sends] == [True, True, False]


def test_a_retry_that_would_come_too_late_takes_no_token():
    retries = Retries(Retry(initial_backoff=1, jitter="none", budget=0, budget_burst=1), Draws(1))
    assert retries.next_send_ps(0, 1, Cause.GATEWAY_QUEUE_FULL, 0, PS_PER_S) is None
    assert retries.next_send_ps(0, 1, Cause.GATEWAY_QUEUE_FULL, 0, PS_PER_S + 1) == PS_PER_S
    assert retries.next_send_ps(0, 1, Cause.GATEWAY_QUEUE_FULL, 0, PS_PER_S + 1) is None  # none left


@given(
    st.lists(st.booleans(), max_size=300),
    st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    st.integers(0, 5),
)
def test_budget_caps_amplification(first_or_retry, ratio, burst):
    budget = RetryBudget(ratio, burst)
    firsts = granted = 0
    for is_first in first_or_retry:
        if is_first:
            budget.first_attempt()
            firsts += 1
        else:
            granted += budget.take()
        assert granted <= burst + ratio * firsts + 1e-9


def test_no_budget_grants_everything():
    budget = RetryBudget(None, 0)
    assert all(budget.take() for _ in range(10))
