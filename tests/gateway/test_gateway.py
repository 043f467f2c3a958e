from __future__ import annotations

import pytest

from simulator.clock import Clock
from simulator.draws import Draws
from simulator.gateway.gateway import Gateway
from simulator.gateway.policies import routing_policy
from simulator.outcomes import Cause
from simulator.scenario.gateway import Gateway as GatewaySection
from simulator.units import to_ps, to_s
from tests.stub_replica import StubReplica, an_attempt


class Heard:
    """A client that keeps what it hears: (what, request id, seen in seconds)."""

    def __init__(self):
        self.news = []

    def first_token(self, attempt, seen_ps):
        self.news.append(("first", attempt.attempt_id // 32, to_s(seen_ps)))

    def finished(self, attempt, seen_ps, finish):
        self.news.append(("finished", attempt.attempt_id // 32, to_s(seen_ps)))

    def failed(self, attempt, seen_ps, cause, output_tokens):
        self.news.append((cause.value, attempt.attempt_id // 32, to_s(seen_ps)))


class Bench:
    def __init__(self, **gateway):
        self.clock = Clock()
        section = GatewaySection.model_validate({"latency": 0, **gateway})
        self.gateway = Gateway(
            self.clock, section, routing_policy(section, Draws(1), lambda metric, pod: None)
        )
        self.heard = Heard()
        self.gateway.connect(self.heard)
        self.attempts = {}

    def replica(self, name="pod-0", first_s=1.0, end_s=2.0, cause=Cause.NONE, out_s=0.0):
        replica = StubReplica(self.clock, name, self.gateway, lambda _: (first_s, end_s, cause), out_s)
        return replica

    def at(self, t_s, call):
        self.clock.call_at(to_ps(t_s), lambda _: call())

    def submit(self, t_s, request_id):
        attempt = self.attempts[request_id] = an_attempt(request_id)
        self.at(t_s, lambda: self.gateway.submit(attempt))

    def received(self, replica):
        return [(attempt_id // 32, to_s(t)) for t, attempt_id in replica.received]


def test_without_latency_nothing_is_delayed():
    bench = Bench()
    replica = bench.replica()
    bench.gateway.add_endpoint(replica)
    bench.submit(5, 0)
    bench.clock.run()
    assert bench.received(replica) == [(0, 5.0)]
    assert bench.heard.news == [("first", 0, 6.0), ("finished", 0, 7.0)]


def test_latency_counts_once_each_way():
    bench = Bench(latency="100ms")
    replica = bench.replica(out_s=0.01)
    bench.gateway.add_endpoint(replica)
    bench.submit(5, 0)
    bench.clock.run()
    assert bench.received(replica) == [(0, 5.1)]
    assert bench.heard.news == [("first", 0, 6.21), ("finished", 0, 7.21)]
    assert to_s(bench.attempts[0].first_token_ps) == 6.21


def test_what_the_gateway_counts_ends_when_it_sees_the_end():
    bench = Bench(latency="100ms")
    bench.gateway.add_endpoint(bench.replica(out_s=0.01))
    bench.submit(0, 0)
    seen = []
    for t_s in (0.05, 2.1, 2.2, 2.21, 2.3):
        bench.at(t_s, lambda: seen.append(bench.gateway.outstanding()["pod-0"]))
    bench.clock.run()
    assert seen == [1, 1, 1, 0, 0]


def test_queue_is_first_come_first_served_and_moves_when_a_slot_is_seen_free():
    bench = Bench(latency="100ms", max_outstanding_per_replica=1)
    replica = bench.replica()
    bench.gateway.add_endpoint(replica)
    for i in range(3):
        bench.submit(0.01 * i, i)
    lengths = []
    bench.at(1, lambda: lengths.append(bench.gateway.queue_length))
    bench.clock.run()
    assert lengths == [2]
    # 0.1 there, 2 in the replica, 0.1 back; then the next one sets out.
    assert bench.received(replica) == [(0, 0.1), (1, 2.3), (2, 4.5)]


def test_queue_full_is_429_and_no_wait_is_503():
    bench = Bench(latency="100ms", max_queue=1, queue_timeout="3s")
    bench.submit(0, 0)
    bench.submit(1, 1)
    bench.clock.run()
    assert bench.heard.news == [
        ("gateway_queue_full", 1, 1.1),
        ("gateway_queue_timeout", 0, 3.1),
    ]
    assert bench.gateway.queue_length == 0


def test_a_queue_of_length_0_refuses_at_once():
    bench = Bench(max_queue=0)
    bench.submit(0, 0)
    bench.clock.run()
    assert bench.heard.news == [("gateway_queue_full", 0, 0.0)]


def test_each_queued_attempt_gets_its_own_full_time():
    bench = Bench(queue_timeout="3s")
    for i, t_s in enumerate((0, 1, 1.5)):
        bench.submit(t_s, i)
    bench.at(2, lambda: bench.gateway.cancel(bench.attempts[0]))  # the head, for which the timer is set
    bench.clock.run()
    assert bench.heard.news == [("gateway_queue_timeout", 1, 4.0), ("gateway_queue_timeout", 2, 4.5)]


def test_an_added_endpoint_gets_what_is_queued():
    bench = Bench(queue_timeout="3s")
    for i in range(3):
        bench.submit(0, i)
    replica = bench.replica()
    bench.at(1, lambda: bench.gateway.add_endpoint(replica))
    bench.clock.run()
    assert bench.received(replica) == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert [news[0] for news in bench.heard.news] == ["first"] * 3 + ["finished"] * 3


def test_a_removed_endpoint_gets_nothing_new_and_ends_what_it_has():
    bench = Bench()
    first, second = bench.replica("pod-0"), bench.replica("pod-1")
    bench.gateway.add_endpoint(first)
    bench.submit(0, 0)
    bench.at(1, lambda: bench.gateway.add_endpoint(second))
    bench.at(1, lambda: bench.gateway.remove_endpoint(first))
    bench.submit(1.5, 1)
    counts = []
    bench.at(1.6, lambda: counts.append(bench.gateway.outstanding()))
    bench.at(2.5, lambda: counts.append(bench.gateway.outstanding()))
    bench.clock.run()
    assert bench.received(first) == [(0, 0.0)]
    assert bench.received(second) == [(1, 1.5)]
    assert counts == [{"pod-0": 1, "pod-1": 1}, {"pod-1": 1}]
    bench.gateway.remove_endpoint(first)  # unknown by now


def test_an_endpoint_that_comes_back_keeps_its_count():
    bench = Bench(max_outstanding_per_replica=1)
    replica = bench.replica()
    bench.gateway.add_endpoint(replica)
    bench.gateway.add_endpoint(replica)  # again: no effect
    bench.submit(0, 0)
    bench.at(0.5, lambda: bench.gateway.remove_endpoint(replica))
    bench.at(1, lambda: bench.gateway.add_endpoint(replica))
    bench.submit(1.5, 1)
    bench.clock.run()
    assert bench.received(replica) == [(0, 0.0), (1, 2.0)]


def test_cancel_where_it_waits_on_the_wire_and_in_a_replica():
    bench = Bench(latency="1s", max_outstanding_per_replica=1)
    replica = bench.replica(first_s=10, end_s=20)
    bench.gateway.add_endpoint(replica)
    for i in range(4):
        bench.submit(0, i)
    generated = []

    def cancel(i):
        generated.append(bench.gateway.cancel(bench.attempts[i]))

    bench.at(0.5, lambda: cancel(0))  # on the wire; 1 sets out now
    bench.at(0.6, lambda: cancel(2))  # queued
    bench.at(5, lambda: cancel(1))  # in the replica; 3 sets out now
    bench.clock.run()
    assert generated == [0, 0, 7]
    assert bench.received(replica) == [(1, 1.5), (3, 6.0)]
    assert [id_ // 32 for id_ in replica.aborted] == [1]
    assert bench.heard.news == [("first", 3, 17.0), ("finished", 3, 27.0)]
    assert bench.gateway.outstanding() == {"pod-0": 0}


def test_cancel_after_the_end_is_harmless():
    bench = Bench(latency="1s")
    bench.gateway.add_endpoint(bench.replica())
    bench.submit(0, 0)
    generated = []
    bench.at(3.5, lambda: generated.append(bench.gateway.cancel(bench.attempts[0])))
    bench.at(4, lambda: None)  # the replica ended it at 3, the gateway sees that at 4
    bench.clock.run()
    assert generated == [0]
    assert bench.gateway.outstanding() == {"pod-0": 0}


def test_a_client_that_gives_up_ends_a_connection_that_has_yet_to_time_out():
    class Unreachable(StubReplica):
        def submit(self, attempt, wire_ps=0):
            self.listener.failed(attempt, bench.clock.now + to_ps(5), Cause.UNREACHABLE, 0)

    bench = Bench(latency="1s", max_outstanding_per_replica=2)
    bench.gateway.add_endpoint(Unreachable(bench.clock, "pod-0", bench.gateway, None, 0.0))
    for request_id in range(3):
        bench.submit(0, request_id)
    counts = []
    bench.at(1.5, lambda: counts.append((bench.gateway.outstanding(), bench.gateway.queue_length)))
    bench.at(2, lambda: bench.gateway.cancel(bench.attempts[0]))
    bench.at(2, lambda: counts.append((bench.gateway.outstanding(), bench.gateway.queue_length)))
    bench.at(3, lambda: bench.gateway.cancel(bench.attempts[1]))
    bench.at(3, lambda: counts.append((bench.gateway.outstanding(), bench.gateway.queue_length)))
    bench.clock.run()
    assert counts == [({"pod-0": 2}, 1), ({"pod-0": 2}, 0), ({"pod-0": 1}, 0)]
    assert bench.gateway.outstanding() == {"pod-0": 0}


def test_many_queued_attempts_refused_at_once_by_a_replica():
    # Each refusal frees the slot within the call that sends: must neither recurse nor lose one.
    bench = Bench(max_queue=5000, max_outstanding_per_replica=1)
    for i in range(5000):
        bench.submit(0, i)
    replica = bench.replica(end_s=0.0, cause=Cause.ENGINE_QUEUE_FULL)
    bench.at(1, lambda: bench.gateway.add_endpoint(replica))
    bench.clock.run()
    assert bench.heard.news == [("engine_queue_full", i, 1.0) for i in range(5000)]


def test_a_look_at_the_gauges_changes_nothing():
    def run(look):
        bench = Bench(latency="100ms", max_outstanding_per_replica=1)
        bench.gateway.add_endpoint(bench.replica())
        for i in range(3):
            bench.submit(0.3 * i, i)
        if look:
            for k in range(100):
                bench.at(0.1 * k, lambda: (bench.gateway.outstanding(), bench.gateway.queue_length))
        bench.clock.run()
        return bench.heard.news

    assert run(False) == run(True)


@pytest.mark.parametrize("latency", ["0s", "50ms"])
def test_requests_on_the_wire_reach_a_replica_that_is_draining(latency):
    bench = Bench(latency=latency)
    replica = bench.replica()
    bench.gateway.add_endpoint(replica)
    bench.submit(0, 0)
    bench.at(0.01, lambda: bench.gateway.remove_endpoint(replica))
    bench.clock.run()
    assert [news[0] for news in bench.heard.news] == ["first", "finished"]
