"""Prices over time and rounded time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.billing import PoolRates, PriceSchedule
from simulator.scenario.capacity import NodePool
from simulator.units import PS_PER_S, to_ps

HOUR = 3600 * PS_PER_S


def test_prices_by_time() -> None:
    schedule = PriceSchedule([(0, 1), (HOUR, 3), (2 * HOUR, 10)])
    assert [schedule.at(t) for t in (0, HOUR - 1, HOUR, 5 * HOUR)] == [1, 1, 3, 10]
    assert schedule.integral(HOUR // 2, 3 * HOUR // 2) == HOUR // 2 * 1 + HOUR // 2 * 3
    assert schedule.integral(3 * HOUR // 2, 3 * HOUR) == HOUR // 2 * 3 + HOUR * 10
    assert schedule.integral(HOUR, HOUR) == 0


@given(
    st.lists(st.integers(1, 1000), unique=True, max_size=5).map(sorted),
    st.lists(st.integers(0, 99), min_size=6, max_size=6),
    st.tuples(*[st.integers(0, 1200)] * 3).map(sorted),
)
def test_an_integral_can_be_split_anywhere(starts: list[int], prices: list[int], times: list[int]) -> None:
    schedule = PriceSchedule(list(zip([0, *starts], prices)))
    a, b, c = times
    assert schedule.integral(a, b) + schedule.integral(b, c) == schedule.integral(a, c)
    assert schedule.integral(a, c) == sum(schedule.at(t) for t in range(a, c))


def test_a_schedule_rises() -> None:
    for bad in ([], [(0, 1), (5, 1), (5, 2)]):
        with pytest.raises(ValueError, match="instants that rise"):
            PriceSchedule(bad)


@pytest.mark.parametrize(
    ("minimum", "granularity", "life_s", "billed_s"),
    [
        (60, 1, 3.2, 60),
        (60, 1, 61.2, 62),
        (0, 1, 3.2, 4),
        (60, 1, 90, 90),
        (0, 3600, 1, 3600),
        (0, 3600, 3601, 7200),
    ],
)
def test_billed_time(minimum: float, granularity: float, life_s: float, billed_s: float) -> None:
    pool = NodePool(name="a", billing={"minimum": minimum, "granularity": granularity})  # type: ignore[arg-type]
    assert PoolRates.of(pool, 1.0).billed_ps(to_ps(life_s)) == to_ps(billed_s)


def test_a_change_at_the_start_is_the_price() -> None:
    pool = NodePool(name="a", price_changes=[{"at": 0, "usd_per_gpu_hour": 2.0}])  # type: ignore[list-item]
    assert PoolRates.of(pool, 1.0).market.at(0) == 2 * 10**9
