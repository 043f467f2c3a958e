import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from simulator.scenario.spread import Spread, SpreadS

bare = TypeAdapter(SpreadS)


def test_a_bare_duration_is_fixed():
    assert bare.validate_python("1m30s") == Spread(fixed=90.0)
    assert bare.validate_python(3) == Spread(fixed=3.0)
    assert bare.validate_python({"median": "2s"}) == Spread(median=2.0)


def test_fixed_is_the_same_everywhere():
    assert {Spread(fixed=7).quantile_s(u) for u in (0.01, 0.5, 0.99)} == {7.0}
    assert Spread(fixed=7).mean_s == 7.0


def test_lognormal_quantiles_and_mean():
    spread = Spread(median=40, sigma=0.3)
    assert spread.quantile_s(0.5) == pytest.approx(40)
    assert spread.quantile_s(0.8413447460685429) == pytest.approx(40 * math.exp(0.3))
    grid = (np.arange(20_000) + 0.5) / 20_000
    mean = sum(spread.quantile_s(u) for u in grid) / 20_000
    assert mean == pytest.approx(spread.mean_s, rel=1e-3)


def test_sigma_is_0_3_unless_given():
    assert Spread(median=40).quantile_s(0.9) == Spread(median=40, sigma=0.3).quantile_s(0.9)
    assert Spread(median=40).mean_s == Spread(median=40, sigma=0.3).mean_s


def test_uniform():
    spread = Spread(min=10, max=20)
    assert [spread.quantile_s(u) for u in (0.25, 0.5, 0.75)] == [12.5, 15.0, 17.5]
    assert spread.mean_s == 15.0


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"fixed": 1, "median": 2},
        {"fixed": 1, "min": 0, "max": 2},
        {"min": 1},
        {"max": 1},
        {"min": 2, "max": 1},
        {"fixed": 1, "sigma": 0.2},
        {"median": 0},
        {"fixed": -1},
        {"fixed": True},
        {"mean": 3},
    ],
)
def test_what_is_not_a_distribution_is_refused(given):
    with pytest.raises(ValidationError):
        Spread(**given)
