"""Step times read off the stamps of a run that the simulator made itself are the profile's."""

from pathlib import Path

import pytest

from tests.validation.runs import NAME, write_run
from validation.cases import vllm_runs
from validation.judge import replay_case
from validation.measured_steps import BINS, DECODE_BINS, decode_steps, steps_with_prompts, summary


def test_the_profiles_own(tmp_path: Path) -> None:
    write_run(tmp_path)
    case = vllm_runs.load(tmp_path, NAME)
    steps = steps_with_prompts(case, replay_case(case).requests["cached_tokens"])
    assert len(steps) > 5
    # The rest of a batch before it is not seen from its beginning where a request comes to an idle GPU.
    assert (steps["measured_ms"] / steps["profile_ms"]).median() == pytest.approx(1.0, abs=0.05)
    assert sum(row["steps"] for row in summary(steps, "prompt_tokens", BINS)) == len(steps)


def test_pure_decode_steps(tmp_path: Path) -> None:
    write_run(tmp_path)
    steps = decode_steps(vllm_runs.load(tmp_path, NAME))
    assert len(steps) > 10
    assert (steps["measured_ms"] / steps["profile_ms"]).median() == pytest.approx(1.0, abs=0.02)
    assert sum(row["steps"] for row in summary(steps, "decodes", DECODE_BINS)) == len(steps)
