from __future__ import annotations

import pytest

from simulator.draws import Draws
from simulator.gateway.endpoint import Endpoint
from simulator.gateway.policies import routing_policy
from simulator.gateway.routing import KV_USAGE, LeastKv, LeastOutstanding, RandomOfTwo, RoundRobin
from simulator.scenario.gateway import Gateway
from tests.stub_replica import an_attempt


class _Nowhere:
    def __init__(self, name):
        self.name = name

    def submit(self, attempt, wire_ps=0):
        raise NotImplementedError

    def abort(self, attempt):
        raise NotImplementedError


def endpoints(*outstanding):
    return [Endpoint(f"pod-{i}", i, _Nowhere(f"pod-{i}"), count, True) for i, count in enumerate(outstanding)]


def choices(policy, candidates, n):
    return [policy.choose(candidates, an_attempt(i)).name[-1] for i in range(n)]


def test_round_robin_takes_turns_whatever_the_load():
    assert choices(RoundRobin(), endpoints(9, 0, 5), 7) == list("0120120")


def test_round_robin_skips_what_cannot_take_it_and_keeps_its_place():
    policy, all_three = RoundRobin(), endpoints(0, 0, 0)
    assert choices(policy, all_three, 1) == ["0"]
    assert choices(policy, [all_three[0], all_three[2]], 1) == ["2"]  # 1 cannot
    assert choices(policy, all_three, 2) == ["0", "1"]


@pytest.mark.parametrize(
    ("outstanding", "expected"),
    [((3, 1, 2), "111"), ((1, 1, 2), "010"), ((0, 0, 0), "012"), ((4, 3, 3), "121")],
)
def test_least_outstanding(outstanding, expected):
    # The counts are held fixed, so that repeated choices show how ties go round.
    assert choices(LeastOutstanding(), endpoints(*outstanding), 3) == list(expected)


@pytest.mark.parametrize(
    ("usage", "outstanding", "expected"),
    [
        ({"pod-0": 0.9, "pod-1": 0.2, "pod-2": 0.5}, (0, 9, 0), "1"),  # stale metric beats own count
        ({"pod-0": 0.5, "pod-1": 0.5, "pod-2": 0.5}, (2, 1, 1), "1"),  # ties by count, then by age
        ({"pod-0": 0.5, "pod-1": 0.5}, (0, 0, 7), "2"),  # never scraped counts as empty
    ],
)
def test_least_kv(usage, outstanding, expected):
    def latest(metric, pod):
        assert metric == KV_USAGE == "vllm:kv_cache_usage_perc"
        return usage.get(pod)

    assert choices(LeastKv(latest), endpoints(*outstanding), 1) == [expected]


def test_random_of_two_takes_the_less_loaded_of_two_distinct():
    # With two endpoints both are drawn always.
    assert set(choices(RandomOfTwo(Draws(1)), endpoints(5, 2), 50)) == {"1"}
    # The most loaded of three is never the better of two.
    assert set(choices(RandomOfTwo(Draws(1)), endpoints(1, 2, 9), 200)) == {"0", "1"}


def test_random_of_two_is_addressed_by_request_and_attempt():
    candidates = endpoints(0, 0, 0, 0, 0)
    policy, other = RandomOfTwo(Draws(7)), RandomOfTwo(Draws(7))
    forwards = {i: policy.choose(candidates, an_attempt(i)).name for i in range(100)}
    backwards = {i: other.choose(candidates, an_attempt(i)).name for i in reversed(range(100))}
    assert forwards == backwards
    row = Draws(7).uniforms(RandomOfTwo.PURPOSE, 42, 1)[0]
    assert forwards[42] == f"pod-{int(row[0] * 5)}"  # all counts equal: the first drawn
    second_tries = {i: policy.choose(candidates, an_attempt(i, 1)).name for i in range(100)}
    assert second_tries != forwards


def test_random_of_two_forgets_old_pages_and_draws_them_alike_again():
    candidates = endpoints(0, 0, 0)
    policy = RandomOfTwo(Draws(7))
    far_apart = [10**12 * w + 512 * k for w in range(3) for k in range(40)]
    first = [policy.choose(candidates, an_attempt(i)).name for i in far_apart]
    assert [policy.choose(candidates, an_attempt(i)).name for i in far_apart] == first


def test_random_of_two_with_one_endpoint():
    assert choices(RandomOfTwo(Draws(1)), endpoints(3), 2) == ["0", "0"]


@pytest.mark.parametrize(
    ("routing", "kind"),
    [
        ("round-robin", "RoundRobin"),
        ("least-outstanding", "LeastOutstanding"),
        ("least-kv", "LeastKv"),
        ("random-of-two", "RandomOfTwo"),
        ("prefix-hash", "PrefixHash"),
        ("prefix-match", "PrefixMatch"),
    ],
)
def test_every_routing_of_the_schema_has_its_policy(routing, kind):
    policy = routing_policy(Gateway(routing=routing), Draws(1), lambda metric, pod: None)
    assert type(policy).__name__ == kind
