from pathlib import Path

import pytest

from simulator.catalog import CatalogError, Model
from simulator.step_time import ProfileError, best_shipped, dump_profile, load_step_time, shipped_profiles

LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("gpu", ["RTXPRO6000", "RTX4090", "A100-80GB-SXM", "H100-SXM", "H200-SXM"])
def test_auto_takes_the_shipped_profile(gpu: str) -> None:
    resolved = load_step_time(gpu, "meta-llama/Llama-3.1-8B-Instruct")
    assert resolved.source == "composed from kernels"
    assert resolved.profile.identity.gpu == gpu
    assert "best shipped profile" in resolved.reason


def test_models_of_the_same_shape_share_a_profile() -> None:
    eight_k = load_step_time("H100", "meta-llama/Meta-Llama-3-8B")
    assert eight_k.profile is load_step_time("H100", LLAMA).profile


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "dtype"),
    [
        ("L4", LLAMA, 1, "bfloat16"),
        ("A100", "meta-llama/Llama-3.1-70B", 4, "fp8"),
        ("H100", LLAMA, 1, "fp8"),
        ("H100", "Qwen/Qwen3-8B", 1, "bfloat16"),
    ],
)
def test_auto_falls_back_to_the_roofline_and_says_so(gpu: str, model: str, tp: int, dtype: str) -> None:
    resolved = load_step_time(gpu, model, tp, dtype)
    assert resolved.source == "roofline"
    assert resolved.reason.startswith("no shipped profile is of ")
    assert "rough" in resolved.known_error
    assert resolved.provenance["source"] == "roofline"


def test_the_roofline_can_be_asked_for() -> None:
    assert load_step_time("H100", LLAMA, profile="roofline").source == "roofline"


def test_float16_is_timed_as_bfloat16() -> None:
    assert load_step_time("H100", LLAMA, dtype="float16").profile is load_step_time("H100", LLAMA).profile


def test_a_profile_by_name_or_path_must_fit(tmp_path: Path) -> None:
    name = "h100-sxm--llama-3.1-8b--bf16--tp1"
    assert load_step_time("H100", LLAMA, profile=name).profile.name == name
    path = tmp_path / "mine.yaml"
    path.write_text(dump_profile(shipped_profiles()[name]), encoding="utf-8")
    assert load_step_time("H100", LLAMA, profile=str(path)).profile == shipped_profiles()[name]
    for changed, reason in [
        ({"gpu": "A100"}, "it is of H100-SXM, not A100-80GB-SXM"),
        ({"model": "Qwen/Qwen3-8B"}, "whose shape is not that of Qwen/Qwen3-8B"),
        ({"tp": 2}, "degree 1, not 2"),
        ({"dtype": "fp8"}, "not fp8"),
    ]:
        deployment = {"gpu": "H100", "model": LLAMA, **changed}
        with pytest.raises(ProfileError, match=reason):
            load_step_time(**deployment, profile=name)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ProfileError, match=r"neither a file nor one that ships.*auto, roofline, a100"):
        load_step_time("H100", LLAMA, profile="h100")
    with pytest.raises(CatalogError, match="unknown GPU"):
        load_step_time("V100", LLAMA)


def test_flags_reach_the_tables() -> None:
    graphs = load_step_time("H100", LLAMA).step_time
    eager = load_step_time("H100", LLAMA, enforce_eager=True).step_time
    assert eager.step_ps(1, 100, ()) > 2 * graphs.step_ps(1, 100, ())
    assert eager.step_ps(0, 0, [(8192, 0)]) == graphs.step_ps(0, 0, [(8192, 0)])


def test_the_recorded_number_of_blocks_is_passed_on() -> None:
    assert load_step_time("RTX4090", LLAMA).num_kv_blocks == 2588
    assert load_step_time("H100", LLAMA).num_kv_blocks is None


def test_weights_choose_the_profile() -> None:
    names = [
        load_step_time("H200", "meta-llama/Llama-3.1-70B", 4, dtype).profile.name for dtype in ("bf16", "fp8")
    ]
    assert names == ["h200-sxm--llama-3.1-70b--bf16--tp4", "h200-sxm--llama-3.1-70b--fp8--tp4"]
    assert load_step_time("A100", "meta-llama/Llama-3.1-70B", 4, "fp8").source == "roofline"


def test_profiles_of_one_gpu() -> None:
    of_one = shipped_profiles("RTX4090")
    assert list(of_one) == ["rtx4090--llama-3.1-8b--bf16--tp1"]
    assert of_one.items() <= shipped_profiles().items()


def test_a_captured_cpu_has_its_profile_though_no_scenario_can_choose_it() -> None:
    fitted = shipped_profiles()["cpu--tiny-llama--bf16--tp1--fitted"]
    model = Model(name="any", shape=fitted.identity.shape, source="here")
    assert best_shipped("CPU", model) is fitted
    assert best_shipped("CPU", model, tp=2) is None
    with pytest.raises(CatalogError, match="CPU is not a GPU"):
        load_step_time("CPU", model)
