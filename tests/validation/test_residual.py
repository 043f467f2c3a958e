"""The residual finds what was put in."""

from pathlib import Path

import pandas as pd
import pytest

from tests.validation.runs import NAME, write_run
from validation.cases import vllm_runs
from validation.measured_steps import BINS, DECODE_BINS, summary
from validation.residual import FactoredStepTime, by_kind, by_size, main, residual, step_factors, text


@pytest.fixture
def slower(tmp_path: Path) -> Path:
    write_run(tmp_path, slower=1.25)
    return tmp_path


def test_factors_make_the_decodes_last_as_long(slower: Path) -> None:
    case = vllm_runs.load(slower, NAME)
    times = case.deployment.plan.step_time.step_time
    factors = step_factors(case)
    assert factors == pytest.approx((1.25, 1.25, 1.0), rel=0.02)  # no step has 1,024 prompt tokens
    factored = FactoredStepTime(times, by_kind(factors), first_ps=7)
    assert factored.step_ps(1, 100, ()) == 7
    assert factored.step_ps(3, 900, ()) == pytest.approx(factors[0] * times.step_ps(3, 900, ()))
    base, per_token, _ = factored.decode_terms(3)
    assert base + per_token * 900 == pytest.approx(factored.step_ps(3, 900, ()), abs=1000)


def test_factors_by_size() -> None:
    decode = pd.DataFrame(
        {"decodes": [3] * 3 + [20] * 3, "measured_ms": [2.0] * 3 + [3.0] * 3, "profile_ms": [1.0] * 6}
    )
    prompts = pd.DataFrame(
        {
            "step_tokens": [300] * 3 + [700] * 2,
            "decodes": [1] * 5,
            "measured_ms": [5.0] * 5,
            "profile_ms": [1.0] * 5,
        }
    )
    factor = by_size(summary(decode, "decodes", DECODE_BINS), summary(prompts, "step_tokens", BINS))
    assert [factor(n, 0) for n in (1, 8, 9, 32, 200)] == [2, 2, 3, 3, 3]
    assert [factor(1, tokens) for tokens in (10, 299, 900)] == [5, 5, 5]  # two steps are too few for a row


def test_rows(slower: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", NAME, "--data", str(slower), "--out", str(slower / "out")]) == 0
    assert (slower / "out" / f"{NAME}.residual.json").is_file()
    figures = residual(vllm_runs.load(slower, NAME))
    by_name = {row["what"].split(":")[0].split(",")[0]: row for row in figures["rows"]}
    assert by_name["nothing"]["tpot_ms"] == pytest.approx(20.0)
    assert by_name["step times with factors from this run"]["tpot_ms"] < 10.0
    assert by_name["the first step's true time"]["ttft_ms"] == pytest.approx(0.0, abs=0.1)
    assert by_name["true TPOT"]["tpot_ms"] == pytest.approx(0.0)
    assert by_name["true TPOT"]["e2e_ms"] == pytest.approx(0.0, abs=1e-6)
    assert by_name["true TTFT"]["ttft_ms"] == pytest.approx(0.0)
    assert by_name["no time in the front end"]["ttft_ms"] > 0
    assert text(figures) in capsys.readouterr().out


def test_no_such_case(slower: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "other", "--data", str(slower)]) == 2
    assert f"no case 'other' in {slower}; there are {NAME}" in capsys.readouterr().err
