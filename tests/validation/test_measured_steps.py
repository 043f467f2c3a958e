"""Step times read off the stamps of a run that the simulator made itself are the profile's."""

from pathlib import Path

import numpy as np
import pytest

from tests.validation.runs import NAME, write_run
from validation.cases import vllm_runs
from validation.judge import replay_case
from validation.measured_steps import (
    BINS,
    DECODE_BINS,
    decode_steps,
    shortest_half,
    steps_with_prompts,
    summary,
)


def test_the_profiles_own(tmp_path: Path) -> None:
    write_run(tmp_path)
    case = vllm_runs.load(tmp_path, NAME)
    steps = steps_with_prompts(case, replay_case(case).requests["cached_tokens"])
    assert len(steps) > 5
    # The rest of a batch before it is not seen from its beginning where a request comes to an idle GPU.
    assert (steps["measured_ms"] / steps["profile_ms"]).median() == pytest.approx(1.0, abs=0.05)
    assert (steps["step_tokens"] == steps["prompt_tokens"] + steps["decodes"]).all()
    rows = summary(steps, "step_tokens", BINS)
    assert 0 <= len(steps) - sum(row["steps"] for row in rows) <= 2 * (len(BINS) - 1 - len(rows))


def test_pure_decode_steps(tmp_path: Path) -> None:
    write_run(tmp_path)
    steps = decode_steps(vllm_runs.load(tmp_path, NAME))
    assert len(steps) > 10
    assert (steps["measured_ms"] / steps["profile_ms"]).median() == pytest.approx(1.0, abs=0.02)
    rows = summary(steps, "decodes", DECODE_BINS)
    assert 0 <= len(steps) - sum(row["steps"] for row in rows) <= 2 * (len(DECODE_BINS) - 1 - len(rows))


def test_what_something_else_delayed_is_left_out() -> None:
    ratios = np.array([1.6, 0.95, 0.94, 1.2, 0.96, 1.9, 0.955])
    assert shortest_half(ratios).tolist() == [False, True, True, False, True, False, True]
    assert shortest_half(np.array([1.0, 5.0, 1.1])).tolist() == [True, False, True]
