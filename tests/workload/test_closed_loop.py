from __future__ import annotations

import heapq
from typing import Any

import pytest

from simulator.units import to_ps
from simulator.workload import RequestSpec, WorkloadSource

FIXED = {"kind": "fixed", "input": 100, "output": 50}


def loop(source: WorkloadSource, service_s: float) -> list[RequestSpec]:
    queue = [(spec.arrival_ps, spec.request_id, spec) for spec in source.arrivals()]
    done = []
    while queue:
        _, _, spec = heapq.heappop(queue)
        done.append(spec)
        following = source.after(spec, spec.arrival_ps + to_ps(service_s), True)
        if following is not None:
            heapq.heappush(queue, (following.arrival_ps, following.request_id, following))
    return done


def test_users_start_along_the_ramp(make_source: Any) -> None:
    arrivals = {"kind": "closed-loop", "users": 4, "ramp": "8s"}
    specs = list(make_source({"arrivals": arrivals, "lengths": FIXED}).arrivals())
    assert [spec.arrival_ps for spec in specs] == [0, to_ps(2), to_ps(4), to_ps(6)]
    assert [spec.request_id for spec in specs] == [0, 1, 2, 3]


def test_throughput_is_users_over_cycle(make_source: Any) -> None:
    """N / (service + think), the interactive response time law."""
    arrivals = {"kind": "closed-loop", "users": 10, "think_time": "3s"}
    specs = loop(make_source({"arrivals": arrivals, "lengths": FIXED}, duration_s=1000.0), 2.0)
    assert len(specs) == 10 * 200
    assert len({spec.request_id for spec in specs}) == len(specs)
    assert {spec.session_id for spec in specs} == {spec.request_id for spec in specs}


def test_random_think_times_have_their_mean(make_source: Any) -> None:
    arrivals = {"kind": "closed-loop", "users": 50, "think_time": {"kind": "exponential", "mean": "3s"}}
    specs = loop(make_source({"arrivals": arrivals, "lengths": FIXED}, duration_s=1000.0), 2.0)
    assert len(specs) == pytest.approx(50 * 1000 / 5, rel=0.03)


def test_users_hold_sessions_one_after_another(make_source: Any) -> None:
    entry = {
        "arrivals": {"kind": "closed-loop", "users": 1, "think_time": "10s"},
        "lengths": FIXED,
        "sessions": {"turns": 2, "think_time": "1s", "system_prompt_tokens": 10},
    }
    specs = loop(make_source(entry, duration_s=30.0), 1.0)
    assert [spec.arrival_ps for spec in specs] == [to_ps(t) for t in (0, 2, 13, 15, 26, 28)]
    assert [spec.turn for spec in specs] == [0, 1, 0, 1, 0, 1]
    assert [spec.session_id for spec in specs] == [0, 0, 1, 1, 2, 2]
    assert [spec.prompt_tokens for spec in specs] == [110, 260] * 3


def test_failed_turn_starts_a_new_session(make_source: Any) -> None:
    entry = {
        "arrivals": {"kind": "closed-loop", "users": 3, "think_time": "10s"},
        "lengths": FIXED,
        "sessions": {"turns": 9},
    }
    source = make_source(entry)
    first = next(source.arrivals())
    following = source.after(first, to_ps(1), False)
    assert following.arrival_ps == to_ps(11)
    assert (following.turn, following.session_id, following.request_id) == (0, 3, 3)


def test_what_a_user_asks_does_not_depend_on_speed(make_source: Any) -> None:
    entry = {
        "arrivals": {"kind": "closed-loop", "users": 5},
        "lengths": {"kind": "builtin", "model": "azure-2023-code"},
    }
    fast = {spec.request_id: spec for spec in loop(make_source(entry), 0.5)}
    for spec in loop(make_source(entry), 1.7):
        assert spec._replace(arrival_ps=0) == fast[spec.request_id]._replace(arrival_ps=0)
