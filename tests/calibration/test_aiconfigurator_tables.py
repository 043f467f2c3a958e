"""The composition against steps of a running vLLM on H100 that nothing was fitted to (inference-sim)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.compose import compose
from simulator.catalog import find_gpu, find_model
from simulator.step_time import ProfileStepTime

BLOCK_SIZE = 16


def _relative_errors(steps: pd.DataFrame, step_time: ProfileStepTime) -> pd.Series:
    """Composed over measured time, less 1.

    A step's contexts are not recorded: the KV tokens in use, less this step's prompts, stand for the decoding
    requests' context, and prompts are taken as new and of equal length.
    """
    in_use = (steps.kv_blocks_total_gpu - steps.kv_blocks_free_gpu) * BLOCK_SIZE
    composed_us = []
    columns = (steps.batch_num_decode_reqs, steps.batch_num_prefill_reqs, steps.batch_prefill_tokens, in_use)
    for decodes, prompts, prompt_tokens, used in zip(*columns, strict=True):
        context = max(used - prompt_tokens, 0) if decodes else 0
        prefills = [(int(prompt_tokens) // int(prompts), 0)] * int(prompts) if prompts else []
        composed_us.append(step_time.step_ps(int(decodes), int(context), prefills) / 1e6)
    return pd.Series(np.array(composed_us) / steps.step_cycle_us.to_numpy() - 1.0, index=steps.index)


@pytest.mark.parametrize(
    ("trace", "model", "tp"),
    [
        ("codellama-34b", "codellama/CodeLlama-34b-hf", 2),
        ("llama-2-70b", "meta-llama/Llama-2-70b-hf", 4),
        ("llama-2-70b-hf", "meta-llama/Llama-2-70b-hf", 4),
    ],
)
def test_composition_agrees_with_measured_steps(
    operator_tables: Path, trace: str, model: str, tp: int
) -> None:
    file = operator_tables / "inference_sim" / "h100_steps_sampled.csv.gz"
    if not file.is_file():
        pytest.skip(f"measured steps are not at {file}")
    steps = pd.read_csv(file)
    steps = steps[(steps.model == trace) & steps.step_cycle_us.notna() & (steps.batch_scheduled_tokens > 0)]
    profile = compose(operator_tables, find_gpu("H100-SXM"), find_model(model), tp)
    errors = _relative_errors(steps, ProfileStepTime(profile))
    pure = steps.batch_num_prefill_reqs == 0
    assert -0.035 < errors[pure].median() < 0.02
    assert -0.03 < errors[~pure].median() < 0.04
    assert errors.quantile(0.05) > -0.12
    assert errors.quantile(0.95) < 0.09
