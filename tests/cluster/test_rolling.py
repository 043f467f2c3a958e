"""The Deployment controller's arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cluster.rolling import Bounds, proportional, step


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "pods"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 10, (3, 2)),
        ("25%", "25%", 1, (1, 0)),
        (0, "10%", 5, (0, 1)),  # both would be 0
        (1, 0, 5, (1, 0)),
        (0, "100%", 3, (0, 3)),
        (2, 9, 3, (2, 3)),
    ],
)
def test_fence_posts(surge, unavailable, replicas, pods):
    assert Bounds(surge, unavailable).resolve(replicas) == pods


def test_grows_up_to_the_surge_first():
    assert step(4, Bounds(1, 0), (0, 0), [(4, 4)]) == (1, [4])
    assert step(4, Bounds(1, 0), (1, 0), [(4, 4)]) == (1, [4])  # waits for it
    assert step(4, Bounds(1, 0), (1, 1), [(4, 4)]) == (1, [3])
    assert step(4, Bounds(1, 0), (1, 1), [(3, 3)]) == (2, [3])


def test_shrinks_at_once_within_what_may_be_unavailable():
    assert step(4, Bounds(0, 2), (0, 0), [(4, 4)]) == (0, [2])
    assert step(4, Bounds(0, 2), (2, 0), [(2, 2)]) == (2, [2])


def test_pods_that_serve_nobody_go_first():
    assert step(4, Bounds(1, 1), (1, 0), [(4, 2)]) == (1, [3])


def test_a_deployment_that_shrinks_shrinks_the_new_set():
    assert step(2, Bounds(1, 0), (4, 4), [(1, 1)]) == (2, [1])


def test_proportions_in_the_midst_of_a_rollout():
    # The documentation's example: 10 replicas, surge 3; 8 old and 5 new; scaled to 15 (surge 4).
    assert proportional([8, 5], 13, 19) == [12, 7]
    assert proportional([8, 5], 13, 0) == [0, 0]


@given(
    replicas=st.integers(1, 20),
    surge=st.integers(0, 5),
    unavailable=st.integers(0, 5),
    flaky=st.lists(st.booleans(), min_size=200, max_size=200),
)
def test_a_rollout_ends_and_stays_in_bounds(replicas, surge, unavailable, flaky):
    bounds = Bounds(surge, unavailable)
    most, missing = bounds.resolve(replicas)
    new, available, old = 0, 0, replicas
    for turns_ready in flaky:
        new, (old,) = step(replicas, bounds, (new, available), [(old, old)])
        available = min(available, new)
        assert new + old <= replicas + most
        assert available + old >= replicas - missing
        if turns_ready:
            available = new
    available = new
    for _ in range(100):
        new, (old,) = step(replicas, bounds, (new, available), [(old, old)])
        available = new
    assert (new, old) == (replicas, 0)


@given(sizes=st.lists(st.integers(0, 20), min_size=1, max_size=4), new_max=st.integers(1, 60))
def test_proportions_add_up(sizes, new_max):
    result = proportional(sizes, max(1, sum(sizes)), new_max)
    assert all(size >= 0 for size in result)
    if sum(sizes):
        assert sum(result) == new_max
