import pytest

from simulator.catalog import find_gpu, find_model
from simulator.step_time import ProfileStepTime, roofline_profile, shipped_profiles
from simulator.step_time.roofline import (
    COMPUTE_EFFICIENCY,
    ERROR_BOUNDS,
    FP8_ERROR_BOUNDS,
    KERNEL_US,
    MEMORY_EFFICIENCY,
    relative_errors,
)

LLAMA = find_model("meta-llama/Llama-3.1-8B")
H100 = find_gpu("H100-SXM")


OF_GPUS = sorted(name for name, profile in shipped_profiles().items() if profile.identity.gpu != "CPU")


@pytest.mark.parametrize("name", OF_GPUS)
def test_stated_error_holds_against_every_shipped_profile(name: str) -> None:
    profile = shipped_profiles()[name]
    identity = profile.identity
    roofline = roofline_profile(
        find_gpu(identity.gpu), find_model(identity.model), tp=identity.tp, dtype=identity.dtype
    )
    bounds = FP8_ERROR_BOUNDS if identity.dtype == "fp8" else ERROR_BOUNDS
    for regime, error in relative_errors(roofline, profile).items():
        low, high = bounds[regime]
        assert low <= error <= high, regime


def test_one_token_is_bound_by_the_weights_bytes() -> None:
    dense_us = roofline_profile(H100, LLAMA).terms.dense.us[0]
    weights = LLAMA.shape.layers * LLAMA.shape.layer_parameters * 2
    expected_us = weights / (H100.hbm_bytes_per_s * MEMORY_EFFICIENCY) * 1e6
    kernels_us = LLAMA.shape.layers * 9 * KERNEL_US  # four GEMMs and five small kernels a layer
    assert dense_us == pytest.approx(expected_us + kernels_us, rel=0.01)


def test_a_long_prompt_is_bound_by_arithmetic() -> None:
    profile = roofline_profile(H100, LLAMA)
    tokens, us = profile.terms.dense.tokens[-1], profile.terms.dense.us[-1]
    flops = 2 * tokens * LLAMA.shape.layers * (LLAMA.shape.attention_parameters + LLAMA.shape.mlp_parameters)
    gemms_us = flops / (H100.bf16_flop_per_s * COMPUTE_EFFICIENCY) * 1e6
    # Two norms (read and write of hidden state and residual), rotary, activation, KV write, two bytes each.
    elements = 2 * 4 * 4096 + 2 * (4096 + 1024) + 3 * 14336 + 4 * 1024
    small_us = 32 * tokens * elements * 2 / (H100.hbm_bytes_per_s * MEMORY_EFFICIENCY) * 1e6
    assert us == pytest.approx(gemms_us + small_us, rel=0.001)


def test_tensor_parallelism_is_faster_but_not_ideally() -> None:
    model = find_model("meta-llama/Llama-3.1-70B")
    steps = {
        tp: ProfileStepTime(roofline_profile(H100, model, tp=tp)).step_ps(8, 8000, ()) for tp in (2, 4, 8)
    }
    assert steps[2] > steps[4] > steps[8]
    assert steps[2] < 4 * steps[8]


def test_fp8_halves_what_is_bound_by_weights() -> None:
    bf16 = roofline_profile(H100, LLAMA).terms.dense
    fp8 = roofline_profile(H100, LLAMA, dtype="fp8").terms.dense
    assert 0.5 < fp8.us[0] / bf16.us[0] < 0.7
    assert fp8.us[-1] / bf16.us[-1] == pytest.approx(0.5, abs=0.05)


def test_a_mixture_of_experts_reads_only_the_experts_visited() -> None:
    model = find_model("Qwen/Qwen3-30B-A3B")
    dense = roofline_profile(H100, model).terms.dense
    by_tokens = dict(zip(dense.tokens, dense.us, strict=True))
    all_experts_us = model.shape.layers * 128 * model.shape.mlp_parameters * 2 / (3.35e12 * 0.8) * 1e6
    assert by_tokens[1] < 0.3 * all_experts_us
    assert by_tokens[512] > all_experts_us
