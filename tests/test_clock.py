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


def test_a_callback_gets_its_argument_and_a_process_waits_for_an_instant():
    clock = Clock()
    order = []

    def process():
        yield clock.event_at(5, LAST)
        order.append(("process", clock.now))
        yield clock.timeout(2)
        order.append(("process", clock.now))

    done = clock.process(process())
    clock.call_at(5, order.append, "callback")
    clock.call_at(6, order.append, "later")
    clock.run(until=done)
    assert order == ["callback", ("process", 5), "later", ("process", 7)]


def test_a_run_up_to_an_instant_leaves_its_events_for_the_next():
    clock = Clock()
    order = []
    clock.call_at(5, order.append, "at 5")
    clock.process(wait(clock, 5, order))
    clock.run(until=5)
    assert (order, clock.now) == ([], 5)
    clock.run(until=6)
    assert order == ["at 5", "process"]


def wait(clock, t_ps, order):
    yield clock.event_at(t_ps)
    order.append("process")
