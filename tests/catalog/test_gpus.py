import pytest

from simulator.catalog import CatalogError, find_gpu, gpu_ids

IDS = [
    "L4",
    "A10G",
    "L40S",
    "RTX4090",
    "RTXPRO6000",
    "A100-40GB-SXM",
    "A100-80GB-SXM",
    "H100-SXM",
    "H200-SXM",
    "B200-SXM",
]


def test_every_gpu_of_the_design_is_there() -> None:
    assert gpu_ids() == IDS


@pytest.mark.parametrize("gpu_id", IDS)
def test_facts_are_plausible_and_sourced(gpu_id: str) -> None:
    gpu = find_gpu(gpu_id)
    assert 20 * 2**30 < gpu.memory_bytes < 200 * 2**30
    # Arithmetic intensity at the roofline's ridge: every data-centre GPU of the last decade lies in here.
    assert 100 < gpu.bf16_flop_per_s / gpu.hbm_bytes_per_s < 500
    # FLOP per clock and SM: a power of two, at the boost clock or up to 8 % below it.
    per_clock = gpu.bf16_flop_per_s / gpu.sms / (gpu.sm_clock_mhz * 1e6)
    assert any(0.92 * power <= per_clock <= 1.01 * power for power in (512, 1024, 2048, 4096, 8192))
    assert gpu.source
    assert gpu.memory_note


def test_names_are_found_whatever_their_case_and_short() -> None:
    assert find_gpu("h100-sxm").id == "H100-SXM"
    assert find_gpu("H100").id == "H100-SXM"
    assert find_gpu("a100").id == "A100-80GB-SXM"


def test_unknown_gpu_lists_close_matches() -> None:
    with pytest.raises(CatalogError, match="unknown GPU 'H100-SXN'; did you mean H100-SXM"):
        find_gpu("H100-SXN")


def test_fp8_without_tensor_cores_runs_at_the_bf16_rate() -> None:
    assert find_gpu("A100").flop_per_s("fp8") == find_gpu("A100").bf16_flop_per_s
    assert find_gpu("H100").flop_per_s("fp8") == pytest.approx(1978.9e12)


def test_a_cpu_is_no_gpu_and_the_error_says_what_its_profiles_are_for() -> None:
    assert "CPU" not in gpu_ids()
    with pytest.raises(
        CatalogError, match="CPU is not a GPU: profiles captured on one check the calibration"
    ):
        find_gpu("cpu")
