"""Fit the built-in workload models from the published traces.

    python -m calibration.workload_models --data DIR

``DIR`` holds azure_llm_2023_{conv,code}.csv.gz (arrival_s, input_tokens, output_tokens) and, for the week of
2024, azure_llm_2024_week_rate_digitised.csv.gz (trace, t_s, rate_rps) and
azure_llm_2024_length_percentiles_digitised.csv (trace, length, percentile, tokens_approx).

What is kept of a trace: its rate in each interval as steps; the burstiness of the gaps on that rate's clock;
quantiles of the input; and quantiles of the output within equal shares of the requests ordered by input,
which carries the dependence without assuming a form. Of 2024 only plots are published in the notebook
that goes with the trace, so its lengths are marginal percentiles without dependence.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from simulator.workload.builtin import WorkloadModel

Floats = NDArray[np.float64]

OUT: Final = Path(__file__).parents[1] / "simulator" / "workload" / "models"

SPLITWISE: Final = (
    "Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024"
)
DYNAMO: Final = (
    "Stojkovic et al., DynamoLLM: Designing LLM Inference Clusters for Performance and Energy Efficiency, "
    "HPCA 2025"
)
URL: Final = "https://github.com/Azure/AzurePublicDataset"

INPUT_LEVELS: Final = np.unique(np.concatenate((np.linspace(0, 1, 81), [0.005, 0.01, 0.99, 0.995, 0.999])))
OUTPUT_LEVELS: Final = np.unique(
    np.concatenate((np.linspace(0, 1, 17), [0.01, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998]))
)
OUTPUT_BINS: Final = 8

INTERVAL_S: Final = {"conv": 60.0, "code": 10.0}
"""Conversation arrives nearly as Poisson within a minute; code comes in bursts of seconds."""


def fit_rate(arrival_s: Floats, interval_s: float) -> dict[str, Any]:
    """Rates by interval over the whole intervals that cover the trace, and the gaps' burstiness.

    The burstiness is 1 / CV² of the gaps on the curve's own clock, which is what the generator draws there.
    """
    bins = int(np.ceil(arrival_s[-1] / interval_s))
    counts = np.histogram(arrival_s, np.arange(bins + 1) * interval_s)[0].astype(np.float64)
    covered_s = np.full(bins, interval_s)
    covered_s[-1] = arrival_s[-1] - (bins - 1) * interval_s
    rates = counts / covered_s
    knots = np.concatenate(([0.0], np.cumsum(counts)))
    place = np.minimum((arrival_s / interval_s).astype(np.int64), bins - 1)
    clock = knots[place] + (arrival_s - place * interval_s) * rates[place]
    gaps = np.diff(clock)
    return {
        "interval_s": interval_s,
        "mean_per_s": round(len(arrival_s) / float(arrival_s[-1]), 6),
        "relative": (rates / np.mean(rates)).round(3).tolist(),
        "burstiness": round(float(np.mean(gaps) ** 2 / np.var(gaps)), 3),
    }


def fit_lengths(inputs: Floats, outputs: Floats) -> dict[str, Any]:
    """Input quantiles, and output quantiles by equal shares of the requests in input order."""
    order = np.argsort(inputs, kind="stable")
    return {
        "input_levels": INPUT_LEVELS.round(4).tolist(),
        "input_tokens": np.quantile(inputs, INPUT_LEVELS).round(1).tolist(),
        "output_levels": OUTPUT_LEVELS.round(4).tolist(),
        "output_tokens": [
            np.quantile(part, OUTPUT_LEVELS).round(1).tolist()
            for part in np.array_split(outputs[order], OUTPUT_BINS)
        ],
    }


def fit_2023(data: Path, trace: str) -> dict[str, Any]:
    rows = pd.read_csv(data / f"azure_llm_2023_{trace}.csv.gz")
    return {
        "rate": fit_rate(rows["arrival_s"].to_numpy(float), INTERVAL_S[trace]),
        "lengths": fit_lengths(rows["input_tokens"].to_numpy(float), rows["output_tokens"].to_numpy(float)),
    }


def fit_2024(data: Path, trace: str) -> dict[str, Any]:
    """The week by half hours, and marginal percentiles; below the lowest a line down to 1 token."""
    week = pd.read_csv(data / "azure_llm_2024_week_rate_digitised.csv.gz")
    week = week[week["trace"] == trace]
    times, rates = week["t_s"].to_numpy(float), week["rate_rps"].to_numpy(float)
    step = 1800.0
    fine = np.interp(np.arange(0.5, 7 * 86400 / 60) * 60.0, times, rates).reshape(-1, int(step / 60))
    by_interval = fine.mean(axis=1)
    mean = float(by_interval.mean())
    table = pd.read_csv(data / "azure_llm_2024_length_percentiles_digitised.csv")
    table = table[table["trace"] == trace]

    def curve(length: str) -> tuple[list[float], list[float]]:
        part = table[table["length"] == length]
        levels = [0.0, *(part["percentile"].to_numpy(float) / 100).tolist(), 1.0]
        tokens = [1.0, *np.maximum(part["tokens_approx"].to_numpy(float), 1.0).tolist()]
        return levels, [*tokens, tokens[-1]]

    input_levels, input_tokens = curve("input")
    output_levels, output_tokens = curve("output")
    return {
        "rate": {
            "interval_s": step,
            "mean_per_s": round(mean, 4),
            "relative": (by_interval / mean).round(3).tolist(),
            "burstiness": 1.0,
        },
        "lengths": {
            "input_levels": input_levels,
            "input_tokens": input_tokens,
            "output_levels": output_levels,
            "output_tokens": [output_tokens],
        },
    }


NOTES: Final = {
    2023: "One hour of 16 November 2023 from 18:15; lengths with the dependence of output on input.",
    2024: (
        "Read off the plots of the published notebook: rates by half hour (+-2 %), from {day} 00:00 UTC; "
        "marginal length percentiles (+-20 tokens input, +-10 output), input and output taken as "
        "independent, the top percent held at p99. Arrivals within a half hour are taken as Poisson."
    ),
}


def models(data: Path) -> dict[str, dict[str, Any]]:
    """Every built-in model by name."""
    result: dict[str, dict[str, Any]] = {}
    for trace, name in (("conv", "conversation"), ("code", "code")):
        day = {"conv": "Sunday 12 May 2024", "code": "Friday 10 May 2024"}[trace]
        for year, fit, cite in ((2023, fit_2023, SPLITWISE), (2024, fit_2024, DYNAMO)):
            source = {
                "trace": f"Azure LLM inference trace {year}, {name}",
                "url": URL,
                "licence": "CC-BY-4.0",
                "cite": cite,
                "note": NOTES[year].format(day=day),
            }
            full = f"azure-{year}-{name}"
            result[full] = {"name": full, "source": source, **fit(data, trace)}
    return result


def main() -> None:
    """Write every model file."""
    parser = argparse.ArgumentParser(description="Fit the built-in workload models from the traces.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the traces")
    parser.add_argument("--out", type=Path, default=OUT, help="where the models go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, model in models(options.data).items():
        WorkloadModel.model_validate(model)
        text = "# Made by python -m calibration.workload_models\n" + yaml.safe_dump(
            model, sort_keys=False, width=108, default_flow_style=None
        )
        (options.out / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
