"""Pauses after failures."""

from simulator.cluster.back_off import RefusalBackOff, RestartBackOff
from simulator.units import PS_PER_S


def test_restarts_wait_longer_each_time():
    back_off = RestartBackOff()
    now, waits = 0, []
    for _ in range(9):
        wait = back_off.ended(now)
        waits.append(wait // PS_PER_S)
        now += wait + 60 * PS_PER_S
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_container_that_ran_long_is_restarted_at_once():
    back_off = RestartBackOff()
    assert back_off.ended(0) == 0
    assert back_off.ended(600 * PS_PER_S) == 10 * PS_PER_S
    assert back_off.ended(610 * PS_PER_S + 601 * PS_PER_S) == 0
    assert back_off.ended(1300 * PS_PER_S) == 10 * PS_PER_S


def test_refusals_double_up_to_a_limit_and_start_anew():
    back_off = RefusalBackOff(300, 1800, 10800)
    assert not back_off.holds(0)
    assert [back_off.refused(now) for now in (0, 300, 900, 2100, 3900)] == [300, 600, 1200, 1800, 1800]
    assert back_off.holds(5699)
    assert not back_off.holds(5700)
    assert back_off.refused(3900 + 10800) == 300
