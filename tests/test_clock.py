import pytest

from simulator.clock import LAST, Clock
from simulator.units import PS_PER_S, to_ps, to_s


def test_the_clock_counts_integers():
    clock = Clock()
    seen = []
    clock.call_at(3 * PS_PER_S + 1, lambda _: seen.append(clock.now))
    clock.run(until=10 * PS_PER_S)
    assert seen == [3_000_000_000_001]
    assert isinstance(clock.now, int)


def test_last_runs_after_everything_else_of_its_instant_whatever_the_order_of_scheduling():
    clock = Clock()
    order = []
    clock.call_at(5, lambda _: order.append("engine"), priority=LAST)
    clock.call_at(5, lambda _: order.append("first arrival"))
    clock.call_at(5, lambda _: clock.call_at(5, lambda _: order.append("chained arrival")))
    clock.run()
    assert order == ["first arrival", "chained arrival", "engine"]


def test_the_past_is_refused():
    clock = Clock()
    clock.call_at(5, lambda _: None)
    clock.run()
    with pytest.raises(ValueError, match="the clock shows 5 ps"):
        clock.call_at(4, lambda _: None)


@pytest.mark.parametrize("seconds", [0.0, 1e-12, 0.5, 7200.0, 1e6])
def test_seconds_survive_the_round_trip(seconds):
    assert to_s(to_ps(seconds)) == pytest.approx(seconds, abs=1e-12)
