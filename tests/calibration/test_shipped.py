from pathlib import Path

import pytest

from calibration.operator_tables import OperatorTables, TablesError
from calibration.shipped import PROFILES, SHIPPED, Shipped, shipped_text
from simulator.catalog import DTYPE_BYTES, find_gpu, find_model
from simulator.step_time import DoesNotFitError, load_profile, num_kv_blocks

SAMPLE = [
    "rtx4090--llama-3.1-8b--bf16--tp1",
    "rtxpro6000--qwen3-30b-a3b-instruct-2507--bf16--tp1",
    "rtxpro6000--qwen3-30b-a3b-instruct-2507--bf16--tp2",
    "a100-80gb-sxm--llama-3.1-8b--bf16--tp8",
    "h200-sxm--llama-3.1-70b--fp8--tp1",
]


def test_the_list_is_what_ships() -> None:
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    composed = [n for n in names if load_profile(PROFILES / f"{n}.yaml").source == "composed from kernels"]
    assert sorted(entry.name for entry in SHIPPED) == composed


@pytest.mark.parametrize("entry", [e for e in SHIPPED if e.name in SAMPLE], ids=lambda e: e.name)
def test_a_remade_profile_equals_the_shipped_one(operator_tables: Path, entry: Shipped) -> None:
    if entry.gpu == "RTXPRO6000" and entry.tp > 1:
        try:
            OperatorTables()
        except TablesError as error:
            pytest.skip(f"the RTX PRO 6000's all-reduce: {error}")
    assert shipped_text(operator_tables, entry) == (PROFILES / f"{entry.name}.yaml").read_text(
        encoding="utf-8"
    )


def test_what_does_not_fit_is_not_shipped() -> None:
    names = {entry.name for entry in SHIPPED}
    assert "h100-sxm--llama-3.1-70b--fp8--tp1" in names
    assert "h200-sxm--llama-3.1-70b--bf16--tp1" not in names
    with pytest.raises(DoesNotFitError):
        num_kv_blocks(find_gpu("H200"), find_model("meta-llama/Llama-3.1-70B").shape, max_model_len=4096)
    assert not any("a100" in name and "fp8" in name for name in names)


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda e: e.name)
def test_no_step_is_faster_than_reading_the_weights(entry: Shipped) -> None:
    gpu, shape = find_gpu(entry.gpu), find_model(entry.model).shape
    idle = (shape.experts - shape.top_k) * shape.mlp_parameters if shape.experts else 0
    weights = shape.layers * (shape.layer_parameters - idle) * DTYPE_BYTES[entry.dtype] / entry.tp
    terms = load_profile(PROFILES / f"{entry.name}.yaml").terms
    assert min(terms.dense.us) >= weights / gpu.hbm_bytes_per_s * 1e6
    head = 2 * shape.vocab * shape.hidden / entry.tp
    assert min(terms.per_sequence.us) >= head / gpu.hbm_bytes_per_s * 1e6
