from __future__ import annotations

import pytest

from simulator.draws import Draws
from simulator.outcomes import Cause
from simulator.units import to_ps
from tests.stub_replica import Chain, Source, Spec, nothing_follows, specs_at

OK = Cause.NONE
FULL = Cause.ENGINE_QUEUE_FULL
NO_JITTER = {"initial_backoff": 1, "jitter": "none", "max_attempts": 3}
FALLBACK = {
    "ttft": 0.5,
    "tpot": 0.1,
    "usd_per_million_input_tokens": 10,
    "usd_per_million_output_tokens": 100,
}


def by_number(*answers):
    """The n-th attempt of a request gets the n-th (first_s, end_s, cause)."""
    return lambda attempt: answers[attempt.number]


def ends(rows):
    return [(row["outcome"], row["cause"], row["end_s"]) for row in rows]


# --- answers ----------------------------------------------------------------------------------------------


def test_a_completed_request_has_every_column():
    source = Source([Spec(3, to_ps(5), session_id=8, turn=2)], nothing_follows)
    chain = Chain(source, gateway={"latency": "100ms"})
    chain.replica(out_s=0.01)
    rows = chain.run()
    (request,), (attempt,) = rows.requests, rows.attempts
    assert request == {
        "request_id": 3,
        "workload": "chat",
        "session_id": 8,
        "turn": 2,
        "arrival_s": 5.0,
        "input_tokens": 100,
        "max_tokens": 10,
        "output_tokens": 10,
        "outcome": "completed",
        "cause": "",
        "attempts": 1,
        "ttft_s": 1.21,
        "tpot_s": pytest.approx(1 / 9),
        "e2e_s": 2.21,
        "max_itl_s": 0.0,
        "queue_s": 0.0,
        "end_s": 7.21,
        "preemptions": 0,
        "cached_tokens": 0,
        "slo_good": True,
    }
    assert attempt == {
        "attempt_id": 3 * 32,
        "request_id": 3,
        "number": 0,
        "pod": "pod-0",
        "sent_s": 5.0,
        "engine_s": 5.1,
        "scheduled_s": 5.1,
        "first_token_s": 6.21,
        "end_s": 7.21,
        "output_tokens": 10,
        "outcome": "completed",
        "cause": "",
        "status": 200,
        "preemptions": 0,
        "cached_tokens": 0,
    }
    assert chain.source.ended == [(3, to_ps(7.21), True)]
    assert chain.client.idle


@pytest.mark.parametrize(
    ("slo", "tokens", "good"),
    [
        ({}, 10, True),
        ({"ttft": 1.0, "tpot": 0.12, "e2e": 2.0}, 10, True),  # at the limit is within
        ({"ttft": 0.99}, 10, False),
        ({"tpot": 0.11}, 10, False),
        ({"tpot": 0.11}, 1, True),  # one token has no time between tokens
        ({"e2e": 1.99}, 10, False),
    ],
)
def test_slo_good(slo, tokens, good):
    chain = Chain(Source([Spec(0, 0, output_tokens=tokens)]), slo=slo)
    chain.replica()
    rows = chain.run()
    assert rows.requests[0]["slo_good"] is good
    assert (rows.requests[0]["tpot_s"] is None) == (tokens == 1)
    assert chain.client.totals.slo_good == good


def test_each_workload_has_its_own_slo():
    chain = Chain(Source([Spec(0, 0), Spec(1, 0, workload=1)]), slo={"e2e": 2})
    chain.replica()
    rows = chain.run()
    assert [(row["workload"], row["slo_good"]) for row in rows.requests] == [("chat", True), ("batch", False)]


def test_without_max_tokens_the_engine_gets_what_the_context_leaves():
    sent = []
    specs = [
        Spec(0, 0, prompt_tokens=100, max_tokens=None),
        Spec(1, 1, prompt_tokens=4096, max_tokens=None),
        Spec(2, 2, prompt_tokens=100, max_tokens=5),
    ]
    chain = Chain(Source(specs))

    def answer(attempt):
        sent.append(attempt.engine_request.max_tokens)
        return 1.0, 2.0, OK

    chain.replica(times_s=answer)
    rows = chain.run()
    assert sent == [3996, 1, 5]
    assert [row["max_tokens"] for row in rows.requests] == [None, None, 5]
    assert [row["output_tokens"] for row in rows.requests] == [10, 1, 5]


def test_what_follows_a_request_arrives_on_time_among_the_others():
    def after(spec, end_ps, succeeded):
        if spec.request_id >= 100 or spec.request_id == 1:
            return None
        return Spec(100 + spec.request_id, end_ps + to_ps(0.5), session_id=spec.session_id)

    chain = Chain(Source([Spec(0, 0), Spec(1, to_ps(1)), Spec(2, to_ps(9))], after))
    chain.replica(out_s=0.25)
    rows = chain.run()
    assert [(row["request_id"], row["arrival_s"]) for row in rows.requests] == [
        (0, 0.0),
        (1, 1.0),
        (100, 2.75),
        (2, 9.0),
        (102, 11.75),
    ]


def test_a_closed_loop_without_think_time_or_latency():
    def after(spec, end_ps, succeeded):
        return Spec(spec.request_id + 2, end_ps) if end_ps < to_ps(10) else None

    chain = Chain(Source([Spec(0, 0), Spec(1, 0)], after))
    chain.replica()
    rows = chain.run()
    assert [row["arrival_s"] for row in rows.requests] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


# --- retries ----------------------------------------------------------------------------------------------


def test_a_refused_request_is_sent_again_after_its_backoff():
    chain = Chain(Source(specs_at(0)), gateway={"latency": "100ms"}, clients={"retry": NO_JITTER})
    chain.replica(times_s=by_number((0, 0, FULL), (0, 0, FULL), (1, 2, OK)))
    rows = chain.run()
    # 0.1 there and 0.1 back, 1 s; 0.2, 2 s; then 0.1 + 2 + 0.1.
    assert [(row["sent_s"], row["end_s"], row["outcome"], row["status"]) for row in rows.attempts] == [
        (0.0, 0.2, "rejected", 503),
        (1.2, 1.4, "rejected", 503),
        (3.4, 5.6, "completed", 200),
    ]
    (request,) = rows.requests
    assert (request["attempts"], request["ttft_s"], request["e2e_s"]) == (3, 4.6, 5.6)


def test_out_of_attempts_the_last_cause_stands():
    chain = Chain(Source(specs_at(0), nothing_follows), clients={"retry": NO_JITTER})
    chain.replica(times_s=lambda _: (0, 0, FULL))
    rows = chain.run()
    assert ends(rows.requests) == [("rejected", "engine_queue_full", 3.0)]
    assert rows.requests[0]["attempts"] == 3
    assert rows.requests[0]["slo_good"] is False
    assert chain.source.ended == [(0, to_ps(3), False)]


def test_a_bad_request_is_never_retried_nor_sent_elsewhere():
    chain = Chain(Source(specs_at(0)), clients={"retry": NO_JITTER, "fallback": FALLBACK})
    chain.replica(times_s=lambda _: (0, 0, Cause.CONTEXT_LENGTH))
    rows = chain.run()
    assert ends(rows.requests) == [("rejected", "context_length", 0.0)]
    assert rows.attempts[0]["status"] == 400


def test_a_cut_stream_starts_again_from_scratch():
    chain = Chain(Source(specs_at(0)), clients={"retry": NO_JITTER})
    dying = chain.replica("pod-0", lambda _: (1, 9, OK))

    def reclaim(_):
        chain.gateway.remove_endpoint(dying)
        chain.replica("pod-1")
        dying.kill(Cause.CUT_SPOT_RECLAIM)

    chain.clock.call_at(to_ps(4), reclaim)
    rows = chain.run()
    cut, kept = rows.attempts
    assert (cut["outcome"], cut["cause"], cut["status"], cut["output_tokens"], cut["first_token_s"]) == (
        "cut",
        "cut_spot_reclaim",
        0,
        3,
        1.0,
    )
    assert (kept["pod"], kept["sent_s"], kept["end_s"]) == ("pod-1", 5.0, 7.0)
    assert rows.requests[0]["ttft_s"] == 6.0  # the first token kept
    assert chain.client.totals.cut == 1


def test_a_cut_stream_without_retries_has_failed():
    chain = Chain(Source(specs_at(0)), clients={})
    chain.replica(times_s=lambda _: (1, 3, Cause.CUT_FAILURE))
    assert ends(chain.run().requests) == [("failed", "cut_failure", 3.0)]


def test_a_hopeless_retry_is_not_waited_for():
    chain = Chain(Source(specs_at(0)), clients={"timeout": 1, "retry": NO_JITTER})
    chain.replica(times_s=lambda _: (0, 0, FULL))
    assert ends(chain.run().requests) == [("rejected", "engine_queue_full", 0.0)]


def test_the_budget_is_shared_and_caps_retries():
    retry = {**NO_JITTER, "initial_backoff": 0.001, "budget": 0.2, "budget_burst": 10}
    chain = Chain(Source(specs_at(*range(200))), clients={"retry": retry})
    chain.replica(times_s=lambda _: (0, 0, FULL))
    rows = chain.run()
    assert len(rows.requests) == 200
    # 10 from the start; the first five requests find the bucket full. Within rounding of 0.2 × 200.
    assert 10 + 0.2 * 195 <= len(rows.attempts) - 200 <= 10 + 0.2 * 200


# --- timeouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clients", "cause", "end_s"),
    [
        ({"timeout": 1.5}, "timeout_request", 1.5),
        ({"attempt_timeout": 1.25}, "timeout_attempt", 1.25),
        ({"ttft_timeout": 0.75}, "timeout_ttft", 0.75),
        ({"ttft_timeout": 0.75, "attempt_timeout": 0.5, "timeout": 0.6}, "timeout_attempt", 0.5),
    ],
)
def test_each_timeout_cancels_and_is_told_apart(clients, cause, end_s):
    chain = Chain(Source(specs_at(10)), clients=clients)
    replica = chain.replica()
    rows = chain.run()
    assert ends(rows.requests) == [("timed-out", cause, 10 + end_s)]
    assert ends(rows.attempts) == [("timed-out", cause, 10 + end_s)]
    assert rows.attempts[0]["status"] == 0
    assert rows.attempts[0]["output_tokens"] == 7  # what the replica had generated when told to stop
    assert replica.aborted == [0]
    assert chain.gateway.outstanding() == {"pod-0": 0}


@pytest.mark.parametrize("limits", [{"ttft_timeout": 1.0}, {"attempt_timeout": 2.0}, {"timeout": 2.0}])
def test_a_token_that_comes_at_the_deadline_is_in_time(limits):
    # News takes a moment (0.5 s) and arrives exactly then.
    chain = Chain(Source(specs_at(0)), clients=limits)
    chain.replica(times_s=lambda _: (0.5, 1.5, OK), out_s=0.5)
    assert ends(chain.run().requests) == [("completed", "", 2.0)]


@pytest.mark.parametrize(
    ("limits", "first_token_s"),
    [({"attempt_timeout": 1.9}, 1.0), ({"timeout": 1.9}, 1.0), ({"ttft_timeout": 0.9}, None)],
)
def test_news_that_comes_after_the_deadline_has_lost(limits, first_token_s):
    chain = Chain(Source(specs_at(0)), clients=limits)
    chain.replica(times_s=lambda _: (0.5, 1.5, OK), out_s=0.5)
    rows = chain.run()
    assert rows.requests[0]["outcome"] == "timed-out"
    assert rows.requests[0]["ttft_s"] is None
    assert rows.attempts[0]["first_token_s"] == first_token_s
    # The replica had finished its 10 tokens in the first two cases.
    assert rows.attempts[0]["output_tokens"] == (7 if first_token_s is None else 10)
    assert len(rows.requests) == 1


def test_the_ttft_timeout_is_per_attempt_and_may_be_retried():
    retry = {**NO_JITTER, "on": ["timeout"]}
    chain = Chain(Source(specs_at(0)), clients={"ttft_timeout": 2, "retry": retry})
    chain.replica(times_s=by_number((5, 9, OK), (1, 9, OK)))
    rows = chain.run()
    assert ends(rows.attempts) == [("timed-out", "timeout_ttft", 2.0), ("completed", "", 12.0)]
    assert rows.requests[0]["ttft_s"] == 4.0


def test_the_whole_request_times_out_while_it_backs_off():
    retry = {**NO_JITTER, "initial_backoff": 3, "max_attempts": 20, "max_backoff": 3}
    chain = Chain(Source(specs_at(0)), clients={"timeout": 10, "retry": retry})
    chain.replica(times_s=by_number((0, 0, FULL), (0, 1, FULL), (5, 20, OK)))
    rows = chain.run()
    assert [row["sent_s"] for row in rows.attempts] == [0.0, 3.0, 7.0]
    assert ends(rows.requests) == [("timed-out", "timeout_request", 10.0)]


def test_a_request_that_waits_in_the_gateway_can_time_out():
    chain = Chain(Source(specs_at(0)), clients={"timeout": 5})
    rows = chain.run()
    assert ends(rows.requests) == [("timed-out", "timeout_request", 5.0)]
    assert rows.attempts[0]["pod"] is None
    assert chain.gateway.queue_length == 0


# --- fallback ---------------------------------------------------------------------------------------------


def test_what_the_fleet_failed_falls_back_and_costs_money():
    chain = Chain(Source(specs_at(0), nothing_follows), clients={"retry": NO_JITTER, "fallback": FALLBACK})
    chain.replica(times_s=lambda _: (0, 0, FULL))
    rows = chain.run()
    (request,) = rows.requests
    # Attempts at 0, 1 and 3; then 0.5 s to the first of 10 tokens, 0.1 s for each of the others.
    assert ends([request]) == [("fell-back", "engine_queue_full", 4.4)]
    assert (request["ttft_s"], request["tpot_s"], request["attempts"]) == (3.5, pytest.approx(0.1), 3)
    assert request["slo_good"] is True
    assert chain.client.fallback_bill.micro_usd / 1e6 == pytest.approx((100 * 10 + 10 * 100) / 1e6)
    assert chain.source.ended == [(0, to_ps(4.4), True)]
    assert (chain.client.totals.fell_back, chain.client.totals.errors) == (1, 0)


def test_the_request_timeout_goes_on_at_the_fallback_and_what_came_is_paid():
    chain = Chain(Source(specs_at(0)), clients={"timeout": 0.75, "fallback": FALLBACK})
    chain.replica(times_s=lambda _: (0, 0, FULL))
    rows = chain.run()
    assert ends(rows.requests) == [("timed-out", "timeout_request", 0.75)]
    assert chain.client.fallback_bill.micro_usd / 1e6 == pytest.approx(
        (100 * 10 + 3 * 100) / 1e6
    )  # tokens at 0.5, 0.6, 0.7


def test_the_request_timeout_does_not_fall_back():
    chain = Chain(Source(specs_at(0)), clients={"timeout": 1, "fallback": FALLBACK})
    chain.replica()
    assert ends(chain.run().requests) == [("timed-out", "timeout_request", 1.0)]
    assert chain.client.fallback_bill.micro_usd / 1e6 == 0


def test_fallback_errors_are_drawn_by_request():
    chain = Chain(
        Source(specs_at(*range(200))), clients={"fallback": {**FALLBACK, "error_rate": 0.3}}, seed=5
    )
    chain.replica(times_s=lambda _: (0, 0, FULL))
    rows = chain.run()
    failed = {row["request_id"] for row in rows.requests if row["outcome"] == "failed"}
    assert failed == {i for i in range(200) if Draws(5).uniform("clients.fallback-error", i) < 0.3}
    assert all(row["cause"] == "fallback_error" for row in rows.requests if row["request_id"] in failed)
    assert rows.request_of(min(failed))["end_s"] == min(failed) + 0.5
    assert chain.client.fallback_bill.micro_usd / 1e6 == pytest.approx((200 - len(failed)) * 0.002)


# --- the run's end and the timeline -----------------------------------------------------------------------


def test_whatever_has_not_ended_is_in_flight():
    clients = {"retry": {**NO_JITTER, "initial_backoff": 100, "max_backoff": 100}, "fallback": FALLBACK}
    answers = {
        0: (1, 9, OK),
        1: (5, 9, OK),
        2: (0, 0, FULL),
        3: (1, 1.9, OK),
        4: (0, 0, Cause.FALLBACK_ERROR),
    }
    chain = Chain(Source(specs_at(0, 0, 0, 0, 1.25)), clients=clients)
    chain.replica(times_s=lambda attempt: answers[attempt.attempt_id // 32], out_s=0.25)
    rows = chain.run(until_s=2.1)
    table = {row["request_id"]: row for row in rows.requests}
    assert len(rows.requests) == 5
    assert {row["outcome"] for row in rows.requests} == {"in-flight"}
    # 0 streams; 1 waits; 2 backs off; 3 has finished in the replica, but its last token comes at 2.15;
    # 4 is at the fallback from 1.5, first token at 2.0.
    assert [table[i]["ttft_s"] for i in range(5)] == [1.25, None, None, 1.25, 0.75]
    assert {row["slo_good"] for row in rows.requests} == {None}
    assert sorted(row["request_id"] for row in rows.attempts if row["outcome"] == "in-flight") == [0, 1, 3]
    assert all(
        row["end_s"] is None and row["status"] == 0 and row["output_tokens"] is None
        for row in rows.attempts
        if row["outcome"] == "in-flight"
    )
    assert chain.client.fallback_bill.micro_usd / 1e6 == pytest.approx(
        (100 * 10 + 2 * 100) / 1e6
    )  # tokens at 2.0 and 2.1


def test_intervals_tell_what_clients_saw_in_them():
    chain = Chain(Source(specs_at(0, 1, 2)))
    chain.replica(out_s=0.25)
    drained = []
    for t_s in (1.2, 1.3, 10):
        chain.clock.call_at(to_ps(t_s), lambda _: drained.append(chain.client.drain_interval()))
    chain.run()
    assert [(d.arrivals, d.attempts, d.completed) for d in drained] == [(2, 2, 0), (0, 0, 0), (1, 1, 3)]
    assert [d.ttft_s for d in drained] == [[], [1.25], [1.25, 1.25]]
    assert [len(d.tpot_s) for d in drained] == [0, 0, 3]
    assert chain.client.totals.completed == 3


def test_looking_changes_nothing():
    def run(every_s):
        retry = {**NO_JITTER, "jitter": "full"}
        chain = Chain(
            Source(specs_at(*(0.25 * i for i in range(60)))),
            clients={"retry": retry, "ttft_timeout": 3},
            gateway={"latency": "50ms", "max_outstanding_per_replica": 3, "max_queue": 2},
        )
        chain.replica(out_s=0.2)
        if every_s:
            for k in range(int(40 / every_s)):
                chain.clock.call_at(to_ps(k * every_s), lambda _: chain.client.drain_interval())
        rows = chain.run()
        return rows.requests, rows.attempts

    assert run(None) == run(0.25) == run(0.05)
