from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.stats import spearmanr

from simulator.draws import Draws
from simulator.scenario.distributions import Count, Time
from simulator.scenario.errors import ScenarioError
from simulator.scenario.lengths import Lengths
from simulator.workload.rate_curve import Ints
from simulator.workload.sampling import BlockDraws, count_sampler, length_sampler, mean_count, time_sampler

WORDS = Draws(3).uniforms("test", 0, 50_000)


def lengths(spec: dict[str, Any], base_dir: Path = Path()) -> tuple[Ints, Ints]:
    return length_sampler(TypeAdapter(Lengths).validate_python(spec), base_dir, "workload.0.lengths")(WORDS)


def test_fixed() -> None:
    inputs, outputs = lengths({"kind": "fixed", "input": 300, "output": 20})
    assert (inputs == 300).all()
    assert (outputs == 20).all()


def test_uniform_reaches_both_ends_equally() -> None:
    spec = {"kind": "uniform", "input": {"min": 1, "max": 10}, "output": {"min": 5, "max": 5}}
    inputs, outputs = lengths(spec)
    counts = np.bincount(inputs)[1:]
    assert len(counts) == 10
    assert counts == pytest.approx(5000, rel=0.06)
    assert set(outputs.tolist()) == {5}


def test_lognormal_by_median_and_p95() -> None:
    side = {"median": 1000, "p95": 4000}
    inputs, outputs = lengths({"kind": "lognormal", "input": side, "output": {"mean": 200, "p95": 600}})
    assert np.quantile(inputs, [0.5, 0.95]) == pytest.approx([1000, 4000], rel=0.03)
    assert np.mean(outputs) == pytest.approx(200, rel=0.02)
    assert np.quantile(outputs, 0.95) == pytest.approx(600, rel=0.03)
    assert abs(spearmanr(inputs, outputs).statistic) < 0.02


def test_lognormal_clips_and_correlates() -> None:
    side = {"median": 100, "sigma": 1.0, "min": 50, "max": 300}
    inputs, outputs = lengths(
        {"kind": "lognormal", "input": side, "output": {"median": 100, "sigma": 1}, "correlation": 0.8}
    )
    assert (inputs.min(), inputs.max()) == (50, 300)
    wide = lengths(
        {"kind": "lognormal", "input": {"median": 1e4, "sigma": 1}, "output": side, "correlation": -1}
    )
    assert spearmanr(*wide).statistic < -0.9
    assert 0.6 < spearmanr(inputs, outputs).statistic < 0.8


def test_tails_without_a_limit_stay_within_the_integers() -> None:
    side = {"median": 1e6, "sigma": 30}
    inputs, _ = lengths({"kind": "lognormal", "input": side, "output": side})
    assert (inputs.min(), inputs.max()) == (1, 2**31 - 1)
    time = TypeAdapter(Time).validate_python({"kind": "lognormal", "median": "1d", "sigma": 30})
    assert time_sampler(time)(WORDS[:, 0]).max() == 2**62


def test_quantiles_are_straight_lines() -> None:
    quantiles = {0: 10, 0.5: 100, 1: 1000}
    inputs, _ = lengths({"kind": "empirical", "input": quantiles, "output": quantiles})
    assert np.quantile(inputs, [0.25, 0.75, 0.9]) == pytest.approx([55, 550, 820], rel=0.03)


def test_rows_of_a_file_stay_together(tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text("output_tokens,input_tokens\n1,10\n2,20\n3,30\n")
    inputs, outputs = lengths({"kind": "empirical", "file": "lengths.csv"}, tmp_path)
    assert (inputs == 10 * outputs).all()
    assert np.bincount(outputs)[1:] == pytest.approx(50_000 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input_tokens,output_tokens\n1,2\nx,3\n", "line 3"),
        ("input_tokens,output_tokens\n1,0\n", "line 2"),
        ("input_tokens,output_tokens\n", "no rows"),
        ("input,output\n1,2\n", "output_tokens"),
    ],
)
def test_bad_file_of_lengths(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ScenarioError, match=message):
        lengths({"kind": "empirical", "file": "bad.csv"}, tmp_path)


def test_missing_file_of_lengths(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"workload\.0\.lengths: cannot read"):
        lengths({"kind": "empirical", "file": "none.csv"}, tmp_path)


@pytest.mark.parametrize(
    ("spec", "mean_s", "p95_s"),
    [
        ("2s", 2.0, 2.0),
        ({"kind": "exponential", "mean": "2s"}, 2.0, 5.991),
        ({"kind": "lognormal", "median": "1s", "p95": "10s"}, 2.663, 10.0),
    ],
)
def test_times(spec: Any, mean_s: float, p95_s: float) -> None:
    times = time_sampler(TypeAdapter(Time).validate_python(spec))(WORDS[:, 0]) / 1e12
    assert np.mean(times) == pytest.approx(mean_s, rel=0.03)
    assert np.quantile(times, 0.95) == pytest.approx(p95_s, rel=0.04)


@pytest.mark.parametrize(
    ("spec", "mean", "most"),
    [
        (4, 4.0, 4),
        ({"kind": "geometric", "mean": 3}, 3.0, 1000),
        ({"kind": "geometric", "mean": 3, "max": 2}, 1 + 2 / 3, 2),
        ({"kind": "geometric", "mean": 1}, 1.0, 1),
        ({"kind": "uniform", "min": 2, "max": 6}, 4.0, 6),
    ],
)
def test_counts(spec: Any, mean: float, most: int) -> None:
    count = TypeAdapter(Count).validate_python(spec)
    values = count_sampler(count)(WORDS[:, 0])
    assert mean_count(count) == pytest.approx(mean)
    assert np.mean(values) == pytest.approx(mean, rel=0.02)
    assert values.min() >= 1
    assert values.max() <= most


def test_block_draws_are_the_draws() -> None:
    draws = Draws(5)
    block = BlockDraws(draws, "p", 16)
    for entity, attempt in [(0, 0), (15, 0), (16, 0), (3, 1), (100, 0), (5, 1)]:
        assert (block.words(entity, attempt) == draws.uniforms("p", entity, 1, attempt)[0]).all()


def test_max_total_tokens_cuts_the_answer_first_and_then_the_prompt() -> None:
    for given_input, given_output, kept in [(10, 5, (10, 5)), (90, 20, (80, 20)), (50, 300, (1, 99))]:
        spec = {"kind": "fixed", "input": given_input, "output": given_output, "max_total_tokens": 100}
        inputs, outputs = lengths(spec)
        assert (int(inputs[0]), int(outputs[0])) == kept
