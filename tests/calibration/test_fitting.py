import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.fitting import fit_error, fit_line, fit_nonnegative, hat_basis, rounded, select_knots


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=40), st.floats(0.001, 0.5))
def test_selected_knots_reproduce_every_point_within_tolerance(values: list[float], tolerance: float) -> None:
    x, y = np.arange(len(values), dtype=np.float64), np.array(values)
    keep = select_knots(x, y, tolerance)
    assert keep[0] == 0
    assert keep[-1] == len(values) - 1
    assert np.all(np.abs(np.interp(x, x[keep], y[keep]) / y - 1.0) <= tolerance)


def test_a_straight_line_needs_two_knots() -> None:
    x = np.arange(1.0, 50.0)
    assert select_knots(x, 3 + 2 * x, 1e-9) == [0, 48]


def test_exact_line_is_recovered() -> None:
    x = np.array([0.0, 10.0, 400.0])
    line = fit_line(x, 5 + 0.25 * x, np.ones(3))
    assert (line.base, line.slope) == pytest.approx((5, 0.25))
    assert line(np.array([4.0]))[0] == pytest.approx(6)


def test_coefficients_do_not_go_below_zero() -> None:
    x = np.array([0.0, 1.0, 2.0])
    assert fit_line(x, np.array([3.0, 2.0, 1.0]), np.ones(3)).slope == 0
    # Columns of very different size do not disturb the solution.
    columns = np.column_stack([np.ones(3), 1e9 * x])
    assert fit_nonnegative(columns, 2 + 1e-9 * 1e9 * x, np.ones(3)) == pytest.approx([2, 1e-9])


def test_hat_basis_interpolates_and_is_constant_outside() -> None:
    basis = hat_basis(np.array([0.0, 15.0, 20.0, 99.0]), [10, 20])
    assert basis.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]


def test_error_of_held_out_rows_by_hand() -> None:
    error = fit_error("dense", np.array([110.0, 95.0]), np.array([100.0, 100.0]), "x")
    assert (error.mean_abs_pct, error.bias_pct, error.rows) == (7.5, 2.5, 2)


def test_rounding_keeps_significant_digits() -> None:
    assert rounded([123456.789, 0.000123456789]) == [123457.0, 0.000123457]
