from __future__ import annotations

import pytest
from pydantic import ValidationError

from simulator.attempts import ATTEMPTS_PER_REQUEST
from simulator.scenario.clients import Clients, Fallback, Retry


def test_defaults_wait_two_minutes_and_try_once():
    clients = Clients()
    assert clients.timeout == 120.0
    assert clients.retry is None
    assert clients.fallback is None


def test_a_scenario_reads_as_written():
    clients = Clients.model_validate(
        {
            "timeout": None,
            "ttft_timeout": "10s",
            "retry": {"initial_backoff": "250ms", "on": ["429", "timeout"], "budget": None},
            "fallback": {
                "ttft": "800ms",
                "usd_per_million_input_tokens": 0.15,
                "usd_per_million_output_tokens": 0.6,
            },
        }
    )
    assert (clients.timeout, clients.ttft_timeout) == (None, 10.0)
    assert clients.retry is not None
    assert (clients.retry.initial_backoff, clients.retry.on) == (0.25, ["429", "timeout"])
    assert clients.fallback is not None
    assert clients.fallback.ttft == 0.8


@pytest.mark.parametrize(
    ("model", "values", "key"),
    [
        (Clients, {"timeout": 0}, "timeout"),
        (Clients, {"retries": 3}, "retries"),
        (Retry, {"max_attempts": 0}, "max_attempts"),
        (Retry, {"multiplier": 0.5}, "multiplier"),
        (Retry, {"jitter": "some"}, "jitter"),
        (Retry, {"on": ["400"]}, "on"),
        (Retry, {"budget": 1.5}, "budget"),
        (Fallback, {"usd_per_million_input_tokens": 1}, "usd_per_million_output_tokens"),
    ],
)
def test_mistakes_name_their_key(model, values, key):
    with pytest.raises(ValidationError) as error:
        model.model_validate(values)
    assert error.value.errors()[0]["loc"][0] == key


def test_attempt_numbers_fit_into_attempt_ids():
    Retry(max_attempts=20)
    with pytest.raises(ValidationError):
        Retry(max_attempts=ATTEMPTS_PER_REQUEST + 1)
