"""Where cost curves cross."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.breakeven.crossing import break_even, crossing

LOADS = (0.25, 0.5, 1.0, 2.0, 4.0)


@given(st.floats(0.3, 3.9))
def test_a_fixed_fleet_crosses_exactly(load: float) -> None:
    ratios = [load / at for at in LOADS]  # cost per token falls as one over the load
    assert crossing(LOADS, ratios) == pytest.approx(load)


def test_the_last_crossing_counts() -> None:
    # A fleet that grows by steps: cheaper at 0.5, dearer again at 1, cheaper from 2 on.
    found = crossing(LOADS, [2.0, 0.9, 1.1, 0.8, 0.7])
    assert found is not None
    assert found == pytest.approx(2 ** (math.log(1.1) / math.log(1.1 / 0.8)))


def test_always_and_never() -> None:
    assert crossing(LOADS, [0.9] * 5) == 0.0
    assert crossing(LOADS, [0.9, 0.9, 0.9, 0.9, 1.1]) is None
    assert crossing((), ()) is None
    assert crossing(LOADS, [1.0] * 5) == 0.0


def test_interval_is_over_replications_on_a_log_scale() -> None:
    found = break_even(LOADS, [[c / at for at in LOADS] for c in (0.5, 1.0, 2.0)])
    assert found.load == pytest.approx(1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(1.0)
    # t quantile of 2 degrees of freedom times ln 2 over the root of 3
    assert math.log(found.high) == pytest.approx(4.302653 * math.log(2) / math.sqrt(3), rel=1e-6)
    assert (found.crossed, found.always, found.never) == (3, 0, 0)


def test_replications_without_a_crossing_are_counted_apart() -> None:
    found = break_even(LOADS, [[0.5] * 5, [2.0] * 5, [1.0 / at for at in LOADS]])
    assert (found.crossed, found.always, found.never) == (1, 1, 1)
    assert (found.load, found.low) == (pytest.approx(1.0), None)
    assert break_even(LOADS, [[2.0] * 5]).load is None
    with pytest.raises(ValueError, match="loads must rise"):
        break_even((1.0, 1.0), [[1.0, 1.0]])
