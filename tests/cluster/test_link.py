"""Transfers over a shared link, against times added up by hand."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.clock import Clock
from simulator.cluster.link import Link
from simulator.units import PS_PER_S, to_s


def ends(capacity, transfers, cancels=()):
    """Seconds at which (start in s, bytes, limit) end; None for those that do not."""
    clock = Clock()
    link = Link(clock, capacity)
    under_way, ended = {}, [None] * len(transfers)

    def start(index, size, limit):
        transfer = under_way[index] = link.transfer(size, limit)
        transfer.done.callbacks.append(lambda _: ended.__setitem__(index, to_s(clock.now)))

    for index, (at, size, limit) in enumerate(transfers):
        clock.call_at(int(at * PS_PER_S), lambda _, i=index, s=size, r=limit: start(i, s, r))
    for at, index in cancels:
        clock.call_at(int(at * PS_PER_S), lambda _, i=index: under_way[i].cancel())
    clock.run()
    assert link.active == 0
    return ended


def test_alone_at_its_own_limit():
    assert ends(100, [(1, 50, 10)]) == [6.0]


def test_two_share():
    # 10 s alone at 10 B/s leave 100 of 200 B; then 5 B/s each: 50 B of the second take 10 s, then all for the first.
    assert ends(10, [(0, 200, 100), (10, 50, 100)]) == [25.0, 20.0]


def test_what_a_slow_one_leaves_the_others_share():
    assert ends(10, [(0, 20, 2), (0, 40, 100), (0, 40, 100)]) == [10.0, 10.0, 10.0]


def test_one_that_is_cancelled_gives_way():
    assert ends(10, [(0, 100, 100), (0, 100, 100)], [(4, 1)]) == [12.0, None]


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 1000),
    transfers=st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 5000), st.integers(1, 500)), min_size=1, max_size=6
    ),
)
def test_the_link_is_never_overdrawn_and_all_arrive(capacity, transfers):
    done = ends(capacity, transfers)
    first = min(at for at, _, _ in transfers)
    total = sum(size for _, size, _ in transfers)
    assert max(done) - first >= Fraction(total, capacity) - Fraction(1, 10**9)
    for (at, size, limit), end in zip(transfers, done, strict=True):
        assert end - at >= size / limit - 1e-9
        assert end - at <= size / min(limit, capacity / len(transfers)) + 1e-9
