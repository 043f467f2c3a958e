"""Random lives of replicas and requests: nothing is lost, nothing is counted twice."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.outcomes import Cause
from simulator.units import to_ps
from tests.stub_replica import Chain, Source, Spec

ROUTING = ["round-robin", "least-outstanding", "least-kv", "prefix-hash", "prefix-match", "random-of-two"]
CAUSES = [
    Cause.NONE,
    Cause.NONE,
    Cause.NONE,
    Cause.ENGINE_QUEUE_FULL,
    Cause.CUT_FAILURE,
    Cause.CONTEXT_LENGTH,
]
TENTHS = st.integers(0, 60).map(lambda n: n / 10)  # coarse, so that things coincide

answers = st.lists(st.tuples(TENTHS, TENTHS, st.sampled_from(CAUSES)), min_size=1, max_size=7)
churn = st.lists(
    st.tuples(TENTHS, st.integers(0, 3), st.sampled_from(["add", "remove", "kill"])), max_size=15
)
clients = st.fixed_dictionaries(
    {
        "timeout": st.sampled_from([None, 2.0, 6.0]),
        "attempt_timeout": st.sampled_from([None, 1.5]),
        "ttft_timeout": st.sampled_from([None, 0.5]),
        "retry": st.sampled_from(
            [
                None,
                {"initial_backoff": 0.1, "jitter": "none", "on": ["429", "503", "cut", "timeout"]},
                {"initial_backoff": 0, "max_attempts": 5, "budget": 0.5, "budget_burst": 2},
            ]
        ),
        "fallback": st.sampled_from(
            [
                None,
                {
                    "usd_per_million_input_tokens": 1,
                    "usd_per_million_output_tokens": 1,
                    "error_rate": 0.5,
                },
            ]
        ),
    }
)
gateway = st.fixed_dictionaries(
    {
        "routing": st.sampled_from(ROUTING),
        "latency": st.sampled_from([0, 0.1]),
        "max_outstanding_per_replica": st.sampled_from([None, 1, 3]),
        "max_queue": st.sampled_from([0, 2, 100]),
        "queue_timeout": st.sampled_from([0, 0.7, 60]),
    }
)


def run(arrivals_s, answers, churn, clients, gateway, out_s, until_s, sessions):
    specs = [
        Spec(i, to_ps(t), segments=((i % 3, 90),) if i % 2 else ()) for i, t in enumerate(sorted(arrivals_s))
    ]

    def after(spec, end_ps, succeeded):
        follows = sessions and spec.request_id < 1000
        return Spec(1000 + spec.request_id, end_ps) if follows else None

    chain = Chain(Source(specs, after), clients=clients, gateway={**gateway, "prefix_block_tokens": 16})

    def answer(attempt):
        return answers[(attempt.attempt_id * 7 + attempt.number) % len(answers)]

    replicas = [chain.replica(f"pod-{i}", answer, out_s) for i in range(4)]

    def change(index, what):
        replica = replicas[index]
        if what == "add":
            chain.gateway.add_endpoint(replica)
        else:
            chain.gateway.remove_endpoint(replica)
            if what == "kill":
                replica.kill(Cause.CUT_SPOT_RECLAIM)

    for t_s, index, what in churn:
        chain.clock.call_at(to_ps(t_s), lambda _, index=index, what=what: change(index, what))
    return chain, chain.run(until_s)


@settings(max_examples=150, deadline=None)
@given(
    arrivals_s=st.lists(TENTHS, max_size=40),
    answers=answers,
    churn=churn,
    clients=clients,
    gateway=gateway,
    out_s=st.sampled_from([0.0, 0.1]),
    until_s=st.sampled_from([None, 3.0, 8.05]),
    sessions=st.booleans(),
)
def test_every_request_and_attempt_ends_in_exactly_one_way(**case):
    chain, rows = run(**case)
    ids = Counter(row["request_id"] for row in rows.requests)
    assert not ids or max(ids.values()) == 1
    if case["until_s"] is None:
        assert all(row["outcome"] != "in-flight" for row in rows.requests)
        assert len(ids) == len(case["arrivals_s"]) * (2 if case["sessions"] else 1)
        assert chain.client.idle
        assert chain.gateway.queue_length == 0
        assert not any(chain.gateway.outstanding().values())
        assert not any(replica.held for replica in _replicas(chain))

    totals = chain.client.totals
    outcomes = Counter(row["outcome"] for row in rows.requests)
    assert totals.arrivals == len(rows.requests)
    assert totals.completed == outcomes["completed"]
    assert totals.fell_back == outcomes["fell-back"]
    assert totals.errors == outcomes["timed-out"] + outcomes["rejected"] + outcomes["failed"]
    assert totals.attempts == len(rows.attempts) == sum(row["attempts"] for row in rows.requests)
    assert totals.slo_good == sum(bool(row["slo_good"]) for row in rows.requests)

    attempts_of: dict[int, list] = {}
    for row in rows.attempts:
        attempts_of.setdefault(row["request_id"], []).append(row)
    for row in rows.requests:
        tried = attempts_of[row["request_id"]]
        assert [attempt["number"] for attempt in tried] == list(range(row["attempts"]))
        # One at a time: each ends before the next is sent.
        for earlier, later in pairwise(tried):
            assert earlier["end_s"] <= later["sent_s"]
        assert sum(attempt["outcome"] == "completed" for attempt in tried) == (row["outcome"] == "completed")
        for attempt in tried:
            known = [attempt[key] for key in ("sent_s", "first_token_s", "end_s") if attempt[key] is not None]
            assert known == sorted(known)
    ended = [row["end_s"] for row in rows.requests if row["end_s"] is not None]
    assert ended == sorted(ended)


@settings(max_examples=25, deadline=None)
@given(
    arrivals_s=st.lists(TENTHS, min_size=5, max_size=30),
    answers=answers,
    churn=churn,
    clients=clients,
    gateway=gateway,
    out_s=st.sampled_from([0.0, 0.1]),
    until_s=st.just(8.0),
    sessions=st.booleans(),
)
def test_the_same_input_gives_the_same_rows(**case):
    _, first = run(**case)
    _, second = run(**case)
    assert (first.requests, first.attempts) == (second.requests, second.attempts)


def _replicas(chain):
    return [endpoint.replica for endpoint in chain.gateway._endpoints.values()]
