from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulator.units import PS_PER_S, to_ps
from simulator.workload.rate_curve import RateCurve, cosine_points


def test_ramp_is_a_parabola_and_its_inverse_a_root() -> None:
    # rate 2t on [0, 5]: Λ(t) = t², so Λ⁻¹(y) = √y exactly
    curve = RateCurve.through([(0.0, 0.0), (5.0, 10.0)], to_ps(5))
    values = np.array([0.0, 1.0, 4.0, 6.25, 24.0])
    assert curve.cumulative[-1] == pytest.approx(25.0, rel=1e-15)
    assert curve.inverter().times_ps(values) == pytest.approx(np.sqrt(values) * PS_PER_S, abs=1.0)


def test_falling_ramp_ends_at_rate_zero() -> None:
    # rate 10 - 2t on [0, 5]: Λ(t) = 10t - t²; the last arrivals come where the rate runs out
    curve = RateCurve.through([(0.0, 10.0), (5.0, 0.0)], to_ps(5))
    values = np.array([9.0, 16.0, 24.75])
    expected = 5.0 - np.sqrt(25.0 - values)
    assert curve.inverter().times_ps(values) == pytest.approx(expected * PS_PER_S, rel=1e-9)


def test_silence_is_skipped() -> None:
    curve = RateCurve.through([(0, 1), (2, 1), (2, 0), (7, 0), (7, 3), (10, 3)], to_ps(10))
    assert curve.cumulative[-1] == pytest.approx(2 + 9)
    assert (curve.inverter().times_ps(np.array([1.5, 2.0, 5.0])) == [to_ps(1.5), to_ps(7), to_ps(8)]).all()
    assert curve.rate_at([1.0, 2.0, 6.9, 7.0, 9.9, 10.0, -1.0]).tolist() == [1, 0, 0, 3, 3, 0, 0]


def test_period_offset_and_ends() -> None:
    saw = [(0.0, 0.0), (10.0, 10.0)]
    curve = RateCurve.through(saw, to_ps(25), period_s=10.0, offset_s=5.0)
    assert curve.rate_at([0.0, 4.0, 5.0, 14.0, 24.0]) == pytest.approx([5.0, 9.0, 0.0, 9.0, 9.0])
    assert curve.cumulative[-1] == pytest.approx(37.5 + 50 + 50)


def test_constant_outside_the_points() -> None:
    curve = RateCurve.through([(2.0, 4.0), (4.0, 8.0)], to_ps(10))
    assert curve.rate_at([0.0, 3.0, 9.0]).tolist() == [4.0, 6.0, 8.0]


def test_total_adds_up() -> None:
    one = RateCurve.through([(0.0, 1.0), (10.0, 3.0)], to_ps(10))
    two = RateCurve.through([(0.0, 2.0), (4.0, 2.0), (4.0, 0.0)], to_ps(10))
    total = RateCurve.total([one, two])
    assert total.rate_at([0.0, 3.0, 4.0, 9.0]) == pytest.approx([3.0, 3.6, 1.8, 2.8])
    assert total.cumulative[-1] == pytest.approx(20 + 8)


def test_cosine_mean_is_exact_over_a_period() -> None:
    curve = RateCurve.through(cosine_points(7.0, 0.6, 86400.0, 50400.0), to_ps(86400), period_s=86400.0)
    assert curve.mean_rate == pytest.approx(7.0, rel=1e-12)
    assert curve.rate_at([50400.0, 50400.0 - 43200.0]) == pytest.approx([7 * 1.6, 7 * 0.4])


@example(rates=[5e-324, 1e-209, 2.0], shares=[0.0, 4.2e-281])
@given(
    rates=st.lists(st.floats(0.0, 100.0), min_size=2, max_size=8).filter(lambda rates: sum(rates) > 1.0),
    shares=st.lists(st.floats(0.0, 0.999), min_size=1, max_size=20),
)
def test_inverse_undoes_the_integral(rates: list[float], shares: list[float]) -> None:
    curve = RateCurve.through(
        [(10.0 * i, rate) for i, rate in enumerate(rates)], to_ps(10 * (len(rates) - 1))
    )
    values = np.sort(np.array(shares)) * curve.cumulative[-1]
    times = curve.inverter().times_ps(values)
    assert (np.diff(times) >= 0).all()
    back = [curve.clipped(int(t)).cumulative[-1] if t else 0.0 for t in times]
    assert np.array(back) == pytest.approx(values, abs=1e-6)
