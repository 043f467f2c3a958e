"""Steps of a running vLLM on H100, sampled and published by inference-sim: a check, never a fit.

The file ``inference_sim/h100_steps_sampled.csv.gz`` beside the operator tables has, per step, the scheduled
requests and tokens, the KV blocks in use and the step's cycle time. Contexts are not recorded: the KV tokens in
use, less the step's prompts, stand for the decoding requests' context; prompts are taken as new and of equal
length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibration.compose import compose
from calibration.operator_tables import TablesError
from simulator.catalog import find_gpu, find_model
from simulator.step_time import ProfileStepTime

BLOCK_SIZE: Final = 16
TRACES: Final = {
    "codellama-34b": ("codellama/CodeLlama-34b-hf", 2),
    "llama-2-70b": ("meta-llama/Llama-2-70b-hf", 4),
    "llama-2-70b-hf": ("meta-llama/Llama-2-70b-hf", 4),
}
"""Trace to model and tensor-parallel degree."""


def read_steps(tables: Path, trace: str) -> pd.DataFrame:
    """Timed steps of one trace that scheduled anything.

    Raises:
        TablesError: the file is not there.
    """
    file = tables / "inference_sim" / "h100_steps_sampled.csv.gz"
    if not file.is_file():
        raise TablesError(f"measured steps are not at {file}")
    steps = pd.read_csv(file)
    return steps[(steps.model == trace) & steps.step_cycle_us.notna() & (steps.batch_scheduled_tokens > 0)]


def relative_errors(steps: pd.DataFrame, step_time: ProfileStepTime) -> pd.Series:
    """Composed over measured time, less 1."""
    in_use = (steps.kv_blocks_total_gpu - steps.kv_blocks_free_gpu) * BLOCK_SIZE
    composed_us = []
    columns = (steps.batch_num_decode_reqs, steps.batch_num_prefill_reqs, steps.batch_prefill_tokens, in_use)
    for decodes, prompts, prompt_tokens, used in zip(*columns, strict=True):
        context = max(used - prompt_tokens, 0) if decodes else 0
        prefills = [(int(prompt_tokens) // int(prompts), 0)] * int(prompts) if prompts else []
        composed_us.append(step_time.step_ps(int(decodes), int(context), prefills) / 1e6)
    return pd.Series(np.array(composed_us) / steps.step_cycle_us.to_numpy() - 1.0, index=steps.index)


def errors_by_regime(tables: Path, trace: str) -> dict[str, pd.Series]:
    """Relative errors of the composition on one trace's steps, pure decode and with prompts."""
    model, tp = TRACES[trace]
    steps = read_steps(tables, trace)
    profile = compose(
        tables if list(tables.glob("aic_gemm_vllm.csv*")) else None,
        find_gpu("H100-SXM"),
        find_model(model),
        tp,
    )
    errors = relative_errors(steps, ProfileStepTime(profile))
    pure = steps.batch_num_prefill_reqs == 0
    return {"pure decode": errors[pure], "with prompts": errors[~pure]}
