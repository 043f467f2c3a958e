"""The built-in models against the traces they were fitted from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr

from simulator.scenario.lengths import BuiltinModel
from simulator.units import to_s
from simulator.workload.builtin import builtin_model


@pytest.mark.parametrize("name", get_args(BuiltinModel))
def test_model_names_its_source(name: BuiltinModel) -> None:
    model = builtin_model(name)
    assert model.name == name
    assert model.source.licence == "CC-BY-4.0"
    assert np.mean(model.rate.relative) == pytest.approx(1.0, abs=1e-3)
    lengths = model.lengths
    for levels, tokens in [
        (lengths.input_levels, lengths.input_tokens),
        *((lengths.output_levels, row) for row in lengths.output_tokens),
    ]:
        assert levels[0] == 0
        assert levels[-1] == 1
        assert (np.diff(levels) > 0).all()
        assert (np.diff(tokens) >= 0).all()
        assert len(levels) == len(tokens)


def sample(arrivals: Any, name: str, duration_s: float, **options: Any) -> pd.DataFrame:
    entry = {
        "arrivals": {"kind": "builtin", "model": name, **options},
        "lengths": {"kind": "builtin", "model": name},
    }
    specs = arrivals(entry, duration_s=duration_s)
    return pd.DataFrame(
        [(to_s(spec.arrival_ps), spec.prompt_tokens, spec.output_tokens) for spec in specs],
        columns=["arrival_s", "input_tokens", "output_tokens"],
    )


def dispersion(times: Any, width_s: float, end_s: float) -> float:
    """Variance over mean of the counts in windows."""
    counts = np.histogram(times, np.arange(0, end_s, width_s))[0]
    return float(np.var(counts) / np.mean(counts))


def cv(gaps: Any) -> float:
    return float(np.std(gaps) / np.mean(gaps))


def test_mean_rate_scales_the_whole_curve(arrivals: Any) -> None:
    model = builtin_model("azure-2023-code")
    specs = sample(arrivals, "azure-2023-code", model.period_s * 20, mean_rate="3/s")
    # burstiness 0.1 gives each count a variance of about ten times its mean
    assert len(specs) == pytest.approx(3 * model.period_s * 20, rel=0.03)


@pytest.mark.parametrize(("trace", "name"), [("conv", "conversation"), ("code", "code")])
def test_azure_2023_model_resembles_its_trace(traces_dir: Path, arrivals: Any, trace: str, name: str) -> None:
    real = pd.read_csv(traces_dir / f"azure_llm_2023_{trace}.csv.gz")
    end_s = float(real["arrival_s"].max())
    model = builtin_model(f"azure-2023-{name}")  # type: ignore[arg-type]
    runs = sample(arrivals, model.name, 20 * model.period_s)
    hours = [part.to_numpy() for _, part in runs["arrival_s"].groupby(runs["arrival_s"] // model.period_s)]

    # Lengths over twenty hours: means within 2 %, KS distance within 1.5 %, quantiles within 4 %.
    for column in ("input_tokens", "output_tokens"):
        assert runs[column].mean() == pytest.approx(real[column].mean(), rel=0.02), column
        assert ks_2samp(runs[column], real[column]).statistic < 0.015, column
        levels = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
        assert runs[column].quantile(levels).to_numpy() == pytest.approx(
            real[column].quantile(levels).to_numpy(), rel=0.04, abs=1.0
        )
    assert spearmanr(runs["input_tokens"], runs["output_tokens"]).statistic == pytest.approx(
        spearmanr(real["input_tokens"], real["output_tokens"]).statistic, abs=0.02
    )
    # Arrivals: the mean exact (that of a sample within 4 standard errors, the variance of a count being
    # count / burstiness); averaged over the hours the bursts on each scale within 20 % (one hour of
    # the trace is itself one draw) and the gaps' CV within 15 %.
    assert model.rate.mean_per_s == pytest.approx(len(real) / end_s, rel=1e-5)
    expected = model.rate.mean_per_s * 20 * model.period_s
    assert len(runs) == pytest.approx(expected, abs=4 * np.sqrt(expected / model.burstiness))
    for width_s in (1.0, 10.0, 60.0):
        ours = np.mean([dispersion(hour - hour[0], width_s, end_s) for hour in hours])
        assert ours == pytest.approx(dispersion(real["arrival_s"], width_s, end_s), rel=0.2), width_s
    ours = np.mean([cv(np.diff(hour)) for hour in hours])
    assert ours == pytest.approx(cv(np.diff(real["arrival_s"])), rel=0.15)


@pytest.mark.parametrize(
    ("trace", "name", "requests"), [("code", "code", 16_803_695), ("conv", "conversation", 27_303_999)]
)
def test_azure_2024_model_resembles_its_trace(
    traces_dir: Path, arrivals: Any, trace: str, name: str, requests: int
) -> None:
    model = builtin_model(f"azure-2024-{name}")  # type: ignore[arg-type]
    assert model.rate.mean_per_s * 7 * 86400 == pytest.approx(requests, rel=0.005)
    week = pd.read_csv(traces_dir / "azure_llm_2024_week_rate_digitised.csv.gz")
    week = week[week["trace"] == trace]
    ours = np.interp(
        week["t_s"],
        (np.arange(len(model.rate.relative)) + 0.5) * model.rate.interval_s,
        np.array(model.rate.relative) * model.rate.mean_per_s,
    )
    assert np.mean(np.abs(ours - week["rate_rps"])) < 0.05 * week["rate_rps"].mean()
    day = sample(arrivals, f"azure-2024-{name}", 86400.0, mean_rate="2/s")
    percentiles = pd.read_csv(traces_dir / "azure_llm_2024_length_percentiles_digitised.csv")
    percentiles = percentiles[percentiles["trace"] == trace]
    for length, error in (("input", 20), ("output", 10)):
        rows = percentiles[percentiles["length"] == length]
        assert day[f"{length}_tokens"].quantile(rows["percentile"] / 100).to_numpy() == pytest.approx(
            rows["tokens_approx"].to_numpy(), rel=0.03, abs=error
        )
