"""The load predictors of NVIDIA Dynamo's planner: constant, ARIMA, Kalman filter, Prophet. Pure.

A series is one of request count, mean input and mean output tokens, a value an interval. Leading zeros are skipped: an
idle time after the start says nothing.

- **constant**: the last value.
- **kalman**: a local linear trend, updated with each value; the last value until ``min_points`` have come.
- **arima**: the last value below 5 points, the common value while all are the same. With the first differing fifth (or
  later) point, pmdarima's `auto_arima` with its defaults picks the orders once; if it finds neither an AR nor an MA
  term, it is asked again for log(1 + x). From then on each value is taken in by the model's `update`.
- **prophet**: the last value below 5 points; then Prophet with its defaults is fitted to the last ``prophet_window``
  points, one adjustment interval apart from 2024-01-01 on, at each prediction.

ARIMA falls back to the last value when the library fails; Prophet's failure predicts nothing. All forecasts but the
constant's are at least 0; with ``log1p`` they are made of log(1 + x).

Source: ai-dynamo 1.6.1 (PyPI), dynamo/planner/core/load/predictors.py. The main branch at 260b6ae9 differs: its Kalman
filter predicts from the first value on.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, Final, Literal

from simulator.units import PS_PER_S

Predictor = Literal["constant", "arima", "kalman", "prophet"]

LIBRARIES: Final[dict[Predictor, str]] = {"arima": "pmdarima", "prophet": "prophet"}
"""What the optional dependency ``planner`` brings, by predictor."""

_MIN_POINTS: Final = 5
_PRIOR: Final = 1000.0
_FIRST_DAY: Final = datetime(2024, 1, 1)
_FAILURES: Final = (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class KalmanParameters:
    """The filter of a local linear trend: noise of level and trend, of the observation, and when to trust it."""

    q_level: float = 1.0
    q_trend: float = 0.1
    r: float = 10.0
    min_points: int = 5


@dataclass(frozen=True, slots=True)
class PredictorSpec:
    """Which predictor, and its settings.

    Attributes:
        predictor: the kind.
        log1p: predict in log(1 + x).
        interval_ps: between values, for Prophet's time axis.
        kalman: the Kalman filter's noise.
        prophet_window: points that Prophet is fitted to.
    """

    predictor: Predictor = "arima"
    log1p: bool = False
    interval_ps: int = 180 * PS_PER_S
    kalman: KalmanParameters = KalmanParameters()
    prophet_window: int = 50


@dataclass(frozen=True, slots=True)
class Forecast:
    """One series' predictor.

    Attributes:
        last: the last value; None before the first that is not 0.
        points: values so far.
        level: of the Kalman filter, in its own (perhaps logarithmic) space.
        trend: likewise, per interval.
        covariance: of level and trend: (level, both, trend).
        history: values that ARIMA or Prophet still need.
        model: ARIMA's fitted model; never changed in place.
        in_logs: whether that model is of log(1 + x).
    """

    last: float | None = None
    points: int = 0
    level: float = 0.0
    trend: float = 0.0
    covariance: tuple[float, float, float] = (_PRIOR, 0.0, _PRIOR)
    history: tuple[float, ...] = ()
    model: Any = None
    in_logs: bool = False


def require(predictor: Predictor) -> None:
    """See that a predictor's library can be imported.

    Raises:
        ValueError: names the library and the extra that brings it.
    """
    library = LIBRARIES.get(predictor)
    if library is None:
        return
    try:
        _quietly(library)
    except ImportError as error:
        raise ValueError(
            f"predictor {predictor} needs {library}, which cannot be imported ({error}): "
            "pip install '.[planner]' in this repository, or give constant or kalman"
        ) from error


def _quietly(library: str) -> Any:
    """The imported library; Prophet tells of plotly's absence when it is imported, and its Stan of every fit."""
    for name, level in (
        ("prophet.plot", logging.CRITICAL),
        ("prophet", logging.ERROR),
        ("cmdstanpy", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)
    stan = logging.getLogger("cmdstanpy")
    if not stan.handlers:
        stan.addHandler(logging.NullHandler())  # else it sets a level and a handler of its own
    return import_module(library)


def observe(forecast: Forecast, value: float, spec: PredictorSpec) -> tuple[Forecast, float | None]:
    """Take in a value and predict the next.

    Args:
        forecast: the series so far.
        value: not finite counts as 0.
        spec: which predictor.

    Returns:
        The series with the value, and the prediction; None where predicting failed.
    """
    value = value if math.isfinite(value) else 0.0
    if forecast.last is None and value == 0:
        return forecast, 0.0
    forecast = replace(forecast, last=value, points=forecast.points + 1)
    match spec.predictor:
        case "constant":
            return forecast, value
        case "kalman":
            return _kalman(forecast, value, spec)
        case "arima":
            return _arima(forecast, max(0.0, value), spec)
        case "prophet":
            return _prophet(forecast, value, spec)


def predict_again(forecast: Forecast, spec: PredictorSpec) -> float | None:
    """The prediction of a series that no value came for."""
    if forecast.last is None:
        return 0.0
    if spec.predictor == "kalman" and forecast.points >= spec.kalman.min_points:
        return _from_space(forecast.level, in_logs=spec.log1p)
    if spec.predictor == "prophet" and forecast.points >= _MIN_POINTS:
        return _prophet_prediction(forecast, spec)
    if spec.predictor == "arima" and forecast.model is not None:
        return _from_space(_next(forecast.model), in_logs=forecast.in_logs)
    return forecast.last


def _from_space(prediction: float, *, in_logs: bool) -> float:
    return max(0.0, math.expm1(prediction) if in_logs else prediction)


def _kalman(forecast: Forecast, value: float, spec: PredictorSpec) -> tuple[Forecast, float]:
    """The filter's update, then its prediction: kept is the state one step ahead."""
    noise = spec.kalman
    z = math.log1p(max(0.0, value)) if spec.log1p else value
    a, b, c = forecast.covariance
    if forecast.points == 1:
        level, trend = z, 0.0
    else:
        gain_level, gain_trend = a / (a + noise.r), b / (a + noise.r)
        level = forecast.level + gain_level * (z - forecast.level)
        trend = forecast.trend + gain_trend * (z - forecast.level)
        a, b, c = (1 - gain_level) * a, (1 - gain_level) * b, c - gain_trend * b
    ahead = replace(
        forecast,
        level=level + trend,
        trend=trend,
        covariance=(a + 2 * b + c + noise.q_level, b + c, c + noise.q_trend),
    )
    if ahead.points < noise.min_points:
        return ahead, value
    return ahead, _from_space(ahead.level, in_logs=spec.log1p)


def _logs(values: Sequence[float]) -> list[float]:
    return [math.log1p(value) for value in values]


def _next(model: Any) -> float:
    return float(model.predict(n_periods=1)[0])


def _fit_arima(values: tuple[float, ...], *, in_logs: bool) -> tuple[Any, bool]:
    """The model that the automatic search picks, and whether it is of logarithms."""
    search: Any = _quietly("pmdarima").auto_arima
    model = search(_logs(values) if in_logs else list(values), suppress_warnings=True, error_action="ignore")
    p, _, q = model.order
    if p or q or in_logs:
        return model, in_logs
    try:
        return search(_logs(values), suppress_warnings=True, error_action="ignore"), True
    except Exception:  # the library's own; the first model stands, as upstream
        return model, False


def _arima(forecast: Forecast, value: float, spec: PredictorSpec) -> tuple[Forecast, float]:
    if forecast.model is None:
        forecast = replace(forecast, history=(*forecast.history, value))
        if forecast.points < _MIN_POINTS or len(set(forecast.history)) == 1:
            return forecast, value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if forecast.model is None:
                model, in_logs = _fit_arima(forecast.history, in_logs=spec.log1p)
            else:
                # The library changes a model in place.
                model, in_logs = copy.deepcopy(forecast.model), forecast.in_logs
                model.update(_logs([value]) if in_logs else [value])
            prediction = _from_space(_next(model), in_logs=in_logs)
    except Exception:  # whatever the library raises, upstream takes the last value
        return forecast, value
    return replace(forecast, history=(), model=model, in_logs=in_logs), prediction


def _prophet(forecast: Forecast, value: float, spec: PredictorSpec) -> tuple[Forecast, float | None]:
    y = math.log1p(max(0.0, value)) if spec.log1p else value
    forecast = replace(forecast, history=(*forecast.history, y)[-spec.prophet_window :])
    if len(forecast.history) < _MIN_POINTS:
        return forecast, value
    return forecast, _prophet_prediction(forecast, spec)


def _prophet_prediction(forecast: Forecast, spec: PredictorSpec) -> float | None:
    import pandas as pd  # noqa: PLC0415 - 0.5 s that only this predictor needs

    prophet = _quietly("prophet")
    step = timedelta(microseconds=spec.interval_ps // 10**6)
    first = forecast.points - len(forecast.history)
    times = [_FIRST_DAY + (first + i) * step for i in range(len(forecast.history))]
    try:
        model = prophet.Prophet()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(pd.DataFrame({"ds": times, "y": forecast.history}))
            ahead = model.predict(pd.DataFrame({"ds": [_FIRST_DAY + forecast.points * step]}))
    except _FAILURES:
        return None
    return _from_space(float(ahead["yhat"].iloc[0]), in_logs=spec.log1p)
