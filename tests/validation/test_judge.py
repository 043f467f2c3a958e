"""A run that the simulator made itself is predicted without error; one that decoded slower, with just that."""

from pathlib import Path

import pytest

from tests.validation.runs import NAME, write_run
from validation.cases import vllm_runs
from validation.judge import judge, replay_case
from validation.plots import save_plot


def test_itself(tmp_path: Path) -> None:
    write_run(tmp_path)
    case = vllm_runs.load(tmp_path, NAME)
    replayed = replay_case(case)
    figures = judge(case, replayed)
    everything = figures["groups"]["all"]
    assert everything["requests"] == 30
    for metric in ("ttft_ms", "tpot_ms", "e2e_ms"):
        assert everything[metric]["mape_pct"] == pytest.approx(0.0, abs=1e-6)
    assert figures["groups"]["unqueued"]["requests"] == 30
    assert figures["published"]["LLMServingSim"]["all"]["ttft_ms"]["mape_pct"] == pytest.approx(100.0)
    assert figures["timeline"]["running"]["mean_abs_difference"] == pytest.approx(0.0, abs=1.0)
    assert replayed.requests["cached_tokens"].iloc[1:].sum() > 0  # the prompts share 100 tokens
    save_plot(tmp_path / "plots" / "case.png", case, replayed)
    assert (tmp_path / "plots" / "case.png").stat().st_size > 10_000


def test_a_slower_decode(tmp_path: Path) -> None:
    write_run(tmp_path, slower=1.25)
    case = vllm_runs.load(tmp_path, NAME)
    everything = judge(case, replay_case(case))["groups"]["all"]
    assert everything["ttft_ms"]["mape_pct"] == pytest.approx(0.0, abs=1e-6)
    assert everything["tpot_ms"]["mape_pct"] == pytest.approx(20.0)
    assert everything["tpot_ms"]["bias_pct"] == pytest.approx(-20.0)
