from __future__ import annotations

import pytest

from simulator.scenario.slo import Slo


@pytest.mark.parametrize(
    ("slo", "latencies", "met"),
    [
        ({}, (99.0, 99.0, 99.0), True),
        ({"ttft": "1s"}, (1.0, 9.0, 9.0), True),
        ({"ttft": "1s"}, (1.001, 0.0, 9.0), False),
        ({"tpot": "50ms"}, (9.0, 0.05, 9.0), True),
        ({"tpot": "50ms"}, (9.0, 0.051, 9.0), False),
        ({"tpot": "50ms"}, (9.0, None, 9.0), True),
        ({"ttft": 1, "tpot": 1, "e2e": 10}, (0.5, 0.5, 10.5), False),
    ],
)
def test_is_met(slo, latencies, met):
    assert Slo.model_validate(slo).is_met(*latencies) is met
