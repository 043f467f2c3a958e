from __future__ import annotations

import pytest

from simulator.attempts import Attempt
from simulator.clients.ledger import is_good
from simulator.clients.rows import failed_attempt_row
from simulator.engines.protocol import EngineRequest
from simulator.scenario.slo import Slo


@pytest.mark.parametrize(
    ("slo", "latencies", "good"),
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
def test_an_answer_is_good_within_every_limit(slo, latencies, good):
    assert is_good(latencies, Slo.model_validate(slo).limits_s) is good


def test_late_times_round_alike_in_compiled_and_in_plain_code():
    late_ps = 2**60 + 1_234_567  # 13 days, which a float does not hold to the picosecond
    attempt = Attempt(32, 0, EngineRequest(32, 1, 1, 1), late_ps, None)
    sent_s = failed_attempt_row(attempt, None, None, "in-flight")[4]
    assert sent_s == float(late_ps) / 1e12
