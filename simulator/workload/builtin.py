"""The built-in statistical models: rate by interval and length quantiles, fitted from published traces.

The files are made by ``calibration.workload_models``; each names its source and licence.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from simulator.scenario.lengths import BuiltinModel
from simulator.scenario.quantities import Section


class Provenance(Section):
    """Where a model comes from."""

    trace: str
    url: str
    licence: str
    cite: str
    note: str


class RateModel(Section):
    """Rate over the length of the trace, by interval, as steps.

    Attributes:
        interval_s: length of an interval in seconds.
        mean_per_s: mean over the whole trace.
        relative: rate of each interval over the mean, shape (intervals,).
        burstiness: shape of the gamma gaps on the clock of the curve.
    """

    interval_s: float
    mean_per_s: float
    relative: tuple[float, ...]
    burstiness: float


class LengthModel(Section):
    """Input quantiles, and output quantiles for each of several equal shares of the input's range of ranks.

    Attributes:
        input_levels: shares from 0 to 1.
        input_tokens: quantiles at these levels.
        output_levels: shares from 0 to 1.
        output_tokens: row j holds the output's quantiles for the j-th of len(output_tokens) equal shares of
            requests, ordered by input.
    """

    input_levels: tuple[float, ...]
    input_tokens: tuple[float, ...]
    output_levels: tuple[float, ...]
    output_tokens: tuple[tuple[float, ...], ...]


class WorkloadModel(Section):
    """One file of `simulator/workload/models`."""

    name: str
    source: Provenance
    rate: RateModel
    lengths: LengthModel

    @property
    def period_s(self) -> float:
        return self.rate.interval_s * len(self.rate.relative)

    @property
    def burstiness(self) -> float:
        return self.rate.burstiness

    def rate_points(self, mean_per_s: float | None = None) -> list[tuple[float, float]]:
        """The rate as steps (two points at each), scaled to a mean per second if one is given."""
        relative_mean = sum(self.rate.relative) / len(self.rate.relative)  # 1 but for rounding
        level = (self.rate.mean_per_s if mean_per_s is None else mean_per_s) / relative_mean
        step = self.rate.interval_s
        return [
            (step * (index + side), relative * level)
            for index, relative in enumerate(self.rate.relative)
            for side in (0, 1)
        ]


@cache
def builtin_model(name: BuiltinModel) -> WorkloadModel:
    """The model of that name, as shipped."""
    text = files("simulator.workload").joinpath("models", f"{name}.yaml").read_text(encoding="utf-8")
    return WorkloadModel.model_validate(yaml.safe_load(text))
