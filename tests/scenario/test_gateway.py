from __future__ import annotations

import pytest
from pydantic import ValidationError

from simulator.scenario.gateway import Gateway


def test_defaults_are_a_plain_least_outstanding_proxy():
    gateway = Gateway()
    assert gateway.routing == "least-outstanding"
    assert gateway.latency == 0.002
    assert gateway.max_outstanding_per_replica is None


def test_durations_are_seconds_whatever_unit_they_are_written_in():
    gateway = Gateway.model_validate({"latency": "5ms", "queue_timeout": "2m", "metrics_interval": 3})
    assert (gateway.latency, gateway.queue_timeout, gateway.metrics_interval) == (0.005, 120.0, 3.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("routing", "fastest"),
        ("max_outstanding_per_replica", 0),
        ("max_queue", -1),
        ("latency", "-1s"),
        ("virtual_nodes", 0),
        ("prefix_block_tokens", 0),
        ("max_queues", 5),
    ],
)
def test_mistakes_name_their_key(key, value):
    with pytest.raises(ValidationError) as error:
        Gateway.model_validate({key: value})
    assert error.value.errors()[0]["loc"] == (key,)


def test_sections_are_frozen():
    with pytest.raises(ValidationError):
        Gateway().routing = "round-robin"  # type: ignore[misc]
