from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator.attempts import ATTEMPTS_PER_REQUEST, attempt_id_of, request_id_of


@given(st.integers(0, 10**16), st.integers(0, ATTEMPTS_PER_REQUEST - 1))
def test_attempt_ids_are_unique_and_lead_back_to_their_request(request_id, number):
    attempt_id = attempt_id_of(request_id, number)
    assert request_id_of(attempt_id) == request_id
    assert attempt_id - attempt_id_of(request_id, 0) == number
    assert attempt_id < 2**63
