"""The planner's predictors: what they answer before they know enough, the filter's matrices, the libraries' calls."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling import dynamo_predictors
from simulator.autoscaling.dynamo_predictors import (
    Forecast,
    KalmanParameters,
    PredictorSpec,
    observe,
    predict_again,
    require,
)
from simulator.units import PS_PER_S

CONSTANT = PredictorSpec("constant")
KALMAN = PredictorSpec("kalman")
ARIMA = PredictorSpec("arima")
PROPHET = PredictorSpec("prophet")


def run(values: list[float], spec: PredictorSpec) -> list[float | None]:
    forecast, predictions = Forecast(), []
    for value in values:
        forecast, predicted = observe(forecast, value, spec)
        predictions.append(predicted)
    return predictions


@pytest.fixture
def pmdarima():
    return pytest.importorskip("pmdarima", reason="needs the extra planner")


@pytest.fixture
def prophet():
    require_prophet = pytest.importorskip("prophet", reason="needs the extra planner")
    require("prophet")
    return require_prophet


@pytest.mark.parametrize("spec", [CONSTANT, KALMAN, ARIMA, PROPHET])
def test_leading_zeros_are_skipped_and_nan_counts_as_zero(spec: PredictorSpec) -> None:
    forecast = Forecast()
    for value in (0.0, math.nan, 0.0):
        forecast, predicted = observe(forecast, value, spec)
        assert predicted == 0.0
    assert forecast == Forecast()
    forecast, _ = observe(forecast, 4.0, spec)
    forecast, _ = observe(forecast, math.nan, spec)
    assert (forecast.points, forecast.last) == (2, 0.0)


def test_constant_predicts_the_last_value() -> None:
    assert run([7.0, 0.0, 3.0], CONSTANT) == [7.0, 0.0, 3.0]


@pytest.mark.parametrize("spec", [KALMAN, ARIMA, PROPHET])
def test_the_last_value_is_predicted_below_five_points(spec: PredictorSpec) -> None:
    assert run([5.0, 9.0, 2.0, 8.0], spec) == [5.0, 9.0, 2.0, 8.0]
    assert predict_again(Forecast(last=8.0, points=4), spec) == 8.0


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=12), st.booleans())
def test_kalman_is_the_textbook_filter(values: list[float], log1p: bool) -> None:
    spec = PredictorSpec("kalman", log1p, kalman=KalmanParameters(2.0, 0.3, 5.0, min_points=3))
    f = np.array([[1.0, 1.0], [0.0, 1.0]])
    q, p, x = np.diag([2.0, 0.3]), np.eye(2) * 1000.0, np.zeros(2)
    h = np.array([[1.0, 0.0]])
    forecast = Forecast()
    for index, value in enumerate(values):
        z = math.log1p(value) if log1p else value
        if index == 0:
            x = np.array([z, 0.0])
        else:
            gain = (p @ h.T) / (h @ p @ h.T + 5.0)
            x = x + (gain * (z - x[0])).ravel()
            p = (np.eye(2) - gain @ h) @ p
        x, p = f @ x, f @ p @ f.T + q
        expected = value if index < 2 else max(0.0, math.expm1(x[0]) if log1p else x[0])
        forecast, predicted = observe(forecast, value, spec)
        assert predicted == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert predict_again(forecast, spec) == predicted


def test_kalman_follows_a_ramp_and_never_goes_below_zero() -> None:
    rising = run([float(value) for value in range(100, 1100, 100)], KALMAN)
    assert rising[-1] == pytest.approx(1100.0, rel=0.02)
    assert run([float(value) for value in range(900, -100, -100)], KALMAN)[-1] == 0.0


def test_arima_of_equal_values_is_that_value() -> None:
    # Needs no library: it is asked first with a value that differs.
    assert run([3.0] * 8, ARIMA) == [3.0] * 8


def test_arima_searches_once_and_updates_from_then_on(pmdarima) -> None:
    values = [10.0, 14.0, 9.0, 15.0, 8.0, 16.0, 9.0, 14.0, 11.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pmdarima.auto_arima(values[:5], suppress_warnings=True, error_action="ignore")
        assert model.order[0] or model.order[2]  # not the case of the logarithms
        expected = [float(model.predict(n_periods=1)[0])]
        for value in values[5:]:
            model.update([value])
            expected.append(float(model.predict(n_periods=1)[0]))
    predictions = run(values, ARIMA)
    assert predictions[:4] == values[:4]
    assert predictions[4:] == pytest.approx([max(0.0, value) for value in expected])


def test_arima_without_ar_and_ma_terms_is_searched_again_in_logarithms(pmdarima) -> None:
    # White noise: the mean, 26, in the first search; the mean of the logarithms, ln 24.65, in the second.
    values = [10.0, 30.0, 20.0, 40.0, 30.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pmdarima.auto_arima(values, suppress_warnings=True).order == (0, 0, 0)
    product = 11 * 31 * 21 * 41 * 31
    assert run(values, ARIMA)[-1] == pytest.approx(product ** (1 / 5) - 1, rel=1e-3)


def test_arima_leaves_an_older_state_as_it_was(pmdarima) -> None:
    forecast = Forecast()
    for value in [10.0, 14.0, 9.0, 15.0, 8.0]:
        forecast, _ = observe(forecast, value, ARIMA)
    first = observe(forecast, 16.0, ARIMA)[1]
    observe(forecast, 400.0, ARIMA)
    assert observe(forecast, 16.0, ARIMA)[1] == first
    assert predict_again(forecast, ARIMA) == predict_again(forecast, ARIMA)


def test_arima_falls_back_to_the_last_value_when_the_library_fails(monkeypatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(dynamo_predictors, "import_module", fail)
    assert run([1.0, 2.0, 3.0, 4.0, 6.0, 5.0], ARIMA) == [1.0, 2.0, 3.0, 4.0, 6.0, 5.0]


def test_prophet_is_fitted_to_the_window_an_interval_apart(prophet) -> None:
    import pandas as pd

    spec = replace(PROPHET, interval_ps=60 * PS_PER_S, prophet_window=6)
    values = [10.0, 12.0, 15.0, 14.0, 18.0, 21.0, 22.0, 25.0]
    predictions = run(values, spec)
    assert predictions[:4] == values[:4]
    # The window holds points 2 to 7, at 00:02 to 00:07; the next is 00:08.
    times = pd.date_range("2024-01-01 00:02", periods=6, freq="60s")
    model = prophet.Prophet()
    model.fit(pd.DataFrame({"ds": times, "y": values[2:]}))
    ahead = model.predict(pd.DataFrame({"ds": [pd.Timestamp("2024-01-01 00:08")]}))
    assert predictions[-1] == pytest.approx(float(ahead["yhat"].iloc[0]), rel=1e-6)


def test_prophet_and_its_stan_say_nothing(prophet) -> None:
    code = (
        "from simulator.autoscaling.dynamo_predictors import Forecast, PredictorSpec, observe\n"
        "forecast = Forecast()\n"
        "for value in (1.0, 3.0, 2.0, 5.0, 4.0, 6.0):\n"
        "    forecast, predicted = observe(forecast, value, PredictorSpec('prophet'))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")


def test_prophet_in_logarithms_stays_above_zero(prophet) -> None:
    predictions = run([100.0, 50.0, 25.0, 12.0, 6.0, 3.0], replace(PROPHET, log1p=True))
    assert predictions[-1] is not None
    assert 0.0 <= predictions[-1] < 6.0


def test_a_missing_library_is_told_with_its_extra(monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(dynamo_predictors, "import_module", missing)
    with pytest.raises(ValueError, match=r"arima needs pmdarima.*\.\[planner\]"):
        require("arima")
    require("kalman")


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    heavy = ("pmdarima", "prophet", "statsmodels")
    code = f"import simulator.simulation, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
