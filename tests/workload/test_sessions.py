from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.units import to_ps
from simulator.workload import RequestSpec, WorkloadSource

FIXED = {"kind": "fixed", "input": 100, "output": 50}
CHAT: dict[str, Any] = {
    "arrivals": {"kind": "poisson", "rate": "2/s"},
    "lengths": {
        "kind": "lognormal",
        "input": {"median": 50, "p95": 300},
        "output": {"median": 80, "p95": 400},
    },
    "sessions": {
        "groups": [
            {"weight": 3, "system_prompt_tokens": 700},
            {"weight": 1, "system_prompt_tokens": 40, "tenants": 5},
        ],
        "turns": {"kind": "geometric", "mean": 3},
        "think_time": {"kind": "exponential", "mean": "10s"},
    },
}


def serve(
    source: WorkloadSource, service_s: float = 1.0, fails: Callable[[RequestSpec], bool] = lambda _: False
) -> list[RequestSpec]:
    """Every request answered ``service_s`` after its arrival, in time order of arrival."""
    done: list[RequestSpec] = []
    queue = [(spec.arrival_ps, spec.request_id, spec) for spec in source.arrivals()]
    heapq.heapify(queue)
    while queue:
        _, _, spec = heapq.heappop(queue)
        done.append(spec)
        following = source.after(spec, spec.arrival_ps + to_ps(service_s), not fails(spec))
        if following is not None:
            assert following.arrival_ps >= spec.arrival_ps + to_ps(service_s)
            heapq.heappush(queue, (following.arrival_ps, following.request_id, following))
    return done


def content_at(spec: RequestSpec, offset: int) -> int | None:
    return next((content for content, end in spec.segments if offset < end), None)


def test_prompt_grows_by_answer_and_user_tokens(make_source: Any) -> None:
    source = make_source(
        {
            "arrivals": {"kind": "constant", "rate": "1/s"},
            "lengths": FIXED,
            "sessions": {"system_prompt_tokens": 1000, "turns": 3, "think_time": "5s"},
            "max_tokens": 30,
        },
        duration_s=1000.0,
    )
    first = next(source.arrivals())
    second = source.after(first, to_ps(2), True)
    third = source.after(second, to_ps(9), True)
    # an answer is cut at max_tokens, 30
    assert [spec.prompt_tokens for spec in (first, second, third)] == [1100, 1230, 1360]
    assert [spec.arrival_ps for spec in (first, second, third)] == [0, to_ps(7), to_ps(14)]
    assert [spec.turn for spec in (first, second, third)] == [0, 1, 2]
    assert [spec.segments[-1][1] for spec in (first, second, third)] == [1130, 1260, 1390]
    assert first.segments[0] == third.segments[0]
    assert len({spec.session_id for spec in (first, second, third)}) == 1
    assert source.after(third, to_ps(20), True) is None


def test_failure_ends_a_session(make_source: Any) -> None:
    source = make_source({**CHAT, "sessions": {"turns": 5}})
    first = next(source.arrivals())
    assert source.after(first, first.arrival_ps + 1, False) is None
    assert source.after(first, first.arrival_ps + 1, True) is None


def test_session_ends_before_its_prompt_is_too_long(make_source: Any) -> None:
    source = make_source(
        {
            "arrivals": {"kind": "constant", "rate": "0.01/s"},
            "lengths": FIXED,
            "sessions": {"turns": 50, "max_prompt_tokens": 700},
        }
    )
    assert [spec.prompt_tokens for spec in serve(source)] == [100, 250, 400, 550, 700]


def test_groups_have_their_weights(make_source: Any) -> None:
    specs = list(make_source(CHAT, duration_s=5000.0).arrivals())
    prompts = Counter(spec.segments[0] for spec in specs)
    big = [count for (_, tokens), count in prompts.items() if tokens == 700]
    small = [count for (_, tokens), count in prompts.items() if tokens == 40]
    assert len(big) == 1
    assert len(small) == 5
    assert big[0] / len(specs) == pytest.approx(0.75, abs=0.02)
    assert max(small) / min(small) < 1.25


def test_turns_do_not_depend_on_what_others_do(make_source: Any) -> None:
    calm = {spec.request_id: spec for spec in serve(make_source(CHAT), 0.5)}
    rough = serve(make_source(CHAT), 7.0, fails=lambda spec: spec.request_id % 5 == 0)
    assert 100 < len(rough) < len(calm)
    for spec in rough:
        other = calm[spec.request_id]
        assert spec._replace(arrival_ps=0) == other._replace(arrival_ps=0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    turns=st.integers(1, 4),
    users=st.integers(0, 5),
    service_s=st.floats(0.0, 30.0),
    failing=st.integers(2, 10),
)
def test_equal_content_ids_mean_equal_prefixes(
    *, make_source: Any, seed: int, turns: int, users: int, service_s: float, failing: int
) -> None:
    """Token by token: content is a chain, so equal ids at an offset ask for equal ids at all before it."""
    sessions = {**CHAT["sessions"], "turns": turns}
    arrivals = {"kind": "closed-loop", "users": users} if users else CHAT["arrivals"]
    source = make_source(
        {**CHAT, "arrivals": arrivals, "sessions": sessions}, CHAT, duration_s=40.0, seed=seed
    )
    specs = serve(source, service_s + 0.5, fails=lambda spec: spec.request_id % failing == 0)
    assert len({spec.request_id for spec in specs}) == len(specs)
    assert all(spec.arrival_ps < to_ps(40) for spec in specs)
    before: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    by_session: dict[int, list[RequestSpec]] = defaultdict(list)
    for spec in specs:
        ends = [end for _, end in spec.segments]
        assert ends == sorted(set(ends))
        for index, (content, _) in enumerate(spec.segments):
            start = spec.segments[index - 1][1] if index else 0
            assert before.setdefault((content, start), spec.segments[:index]) == spec.segments[:index]
        by_session[spec.session_id].append(spec)
    for parts in by_session.values():
        assert [spec.turn for spec in parts] == list(range(len(parts)))
        for one, two in pairwise(parts):
            assert two.prompt_tokens > one.prompt_tokens + one.output_tokens
            answer_end = one.prompt_tokens + one.output_tokens
            assert content_at(two, answer_end - 1) == content_at(one, answer_end - 1) is not None
