"""A replica relays between its engine and the gateway, and ends when its process does."""

import pytest

from simulator.attempts import Attempt
from simulator.engines.protocol import EngineRequest
from simulator.outcomes import Cause


@pytest.fixture
def served(world):
    w = world(initial="ready")
    w.cluster.start(1)
    return w, w.cluster.serving()[0]


def attempt(w, number, tokens=10):
    return Attempt(number, 0, EngineRequest(number, 1, tokens, tokens), w.clock.now, None)


def test_finishes_are_relayed(served):
    w, replica = served
    replica.submit(attempt(w, 1))
    assert replica.in_flight == 1
    w.run(20)
    assert w.ended == [(10.0, 1, "finished", 0)]
    assert replica.in_flight == 0


def test_kill_cuts_each_stream_once_and_names_the_cause_ever_after(served):
    w, replica = served
    replica.submit(attempt(w, 1))
    replica.submit(attempt(w, 2))
    w.run(5)
    assert replica.kill(Cause.CUT_SPOT_RECLAIM) == 2
    assert replica.kill(Cause.CUT_TERMINATION) == 0
    replica.submit(attempt(w, 3))
    w.run(20)
    assert [(number, how, lost) for _, number, how, lost in w.ended] == [
        (1, "cut_spot_reclaim", 7),
        (2, "cut_spot_reclaim", 7),
        (3, "cut_spot_reclaim", 0),
    ]


def test_abort_says_nothing_more(served):
    w, replica = served
    one = attempt(w, 1)
    replica.submit(one)
    w.run(5)
    assert replica.abort(one) == 7
    assert replica.abort(one) == 0
    w.run(20)
    assert w.ended == []


def test_when_empty_waits_for_the_last_attempt(served):
    w, replica = served
    replica.submit(attempt(w, 1))
    emptied = []
    replica.when_empty(lambda: emptied.append(w.clock.now))
    w.run(9)
    assert emptied == []
    w.run(11)
    assert len(emptied) == 1


def test_when_empty_calls_at_once_if_nothing_is_in_flight(served):
    _, replica = served
    emptied = []
    replica.when_empty(lambda: emptied.append(True))
    assert emptied == [True]


def test_a_draining_replica_refuses_what_is_new(served):
    w, replica = served
    replica.submit(attempt(w, 1))
    replica.drain()
    replica.submit(attempt(w, 2))
    w.run(20)
    assert w.ended == [(0.0, 2, "cut_termination", 0), (10.0, 1, "finished", 0)]


def test_a_replica_that_does_not_listen_yet_refuses(served):
    w, replica = served
    replica.listening = False
    replica.submit(attempt(w, 1))
    assert w.ended == [(0.0, 1, "cut_failure", 0)]
