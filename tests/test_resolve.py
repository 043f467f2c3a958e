"""What a scenario makes of an engine."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.resolve import pod_spec, resolve_replica
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from simulator.units import to_ps
from tests.small import write


def plan(folder: Path, change: dict[str, Any] | None = None) -> Any:
    return resolve_replica(load_scenario(write(folder, change)))


def test_override_of_blocks(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made.engine.num_gpu_blocks == 400
    assert made.kv_blocks_from == "num-gpu-blocks-override"


def test_blocks_fill_the_memory_that_weights_leave(tmp_path: Path) -> None:
    made = plan(tmp_path, {"engine": {"vllm": {"num-gpu-blocks-override": None}}})
    kv_bytes_per_block = 16 * 2 * 32 * 8 * 128 * 2  # tokens, K and V, layers, KV heads, head size, bytes
    taken = made.engine.num_gpu_blocks * kv_bytes_per_block + made.weight_bytes
    usable = 0.92 * made.gpu.memory_bytes
    assert 0.9 * usable < taken < usable


def test_front_end_of_the_scenario_replaces_the_profile_s(tmp_path: Path) -> None:
    made = plan(tmp_path, {"engine": {"frontend_in": "7ms", "frontend_out": "2ms"}})
    assert (made.frontend_in_ps, made.frontend_in_ps_per_token) == (to_ps(0.007), 0)
    assert made.frontend_out_ps == to_ps(0.002)


def test_tensor_parallel_replica(tmp_path: Path) -> None:
    vllm = {"model": "meta-llama/Llama-2-70b-hf", "tensor-parallel-size": 4, "num-gpu-blocks-override": None}
    made = plan(tmp_path, {"engine": {"vllm": vllm}})
    assert made.gpus == 4
    assert made.step_time.profile.name == "h100-sxm--llama-2-70b-hf--bf16--tp4"


def test_eager_and_graphs_differ_in_steps(tmp_path: Path) -> None:
    graphs, eager = (plan(tmp_path, {"engine": {"vllm": {"enforce-eager": flag}}}) for flag in (False, True))
    one = [made.step_time.step_time.decode_terms(1)[0] for made in (graphs, eager)]
    assert one[0] < one[1]
    assert eager.enforce_eager


def test_own_model_keeps_the_name_that_vllm_has(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    change = {"engine": {"model_config_json": "config.json", "vllm": {"model": "our/own"}}}
    assert plan(tmp_path, change).model.name == "our/own"


def test_pod_of_a_deployment(tmp_path: Path) -> None:
    experiments = Path(__file__).parents[1] / "experiments"
    loaded = load_scenario(experiments / "spiky.yaml")
    spec = pod_spec(loaded, resolve_replica(loaded))
    manifest = yaml.safe_load((experiments / "manifests" / "deployment.yaml").read_text())
    pod = manifest["spec"]["template"]["spec"]
    assert spec.termination_grace_period_s == pod["terminationGracePeriodSeconds"]
    assert spec.pre_stop_s == 30
    assert spec.readiness_probe is not None
    assert spec.readiness_probe.period_s == 5


@pytest.mark.parametrize("replicas", [None, 3])
def test_without_a_manifest_pods_are_probed(tmp_path: Path, replicas: int | None) -> None:
    loaded = load_scenario(write(tmp_path, {"fleet": {"replicas": replicas}}))
    assert pod_spec(loaded, resolve_replica(loaded)).readiness_probe is not None


def test_releases_before_0_21_find_their_blocks_as_they_did(tmp_path: Path) -> None:
    """They took 0.9 of the memory by default and did not count the CUDA graphs."""

    def blocks(version: str, **vllm: Any) -> int:
        engine = {"vllm_version": version, "vllm": {"num-gpu-blocks-override": None, **vllm}}
        return int(plan(tmp_path, {"engine": engine}).engine.num_gpu_blocks)

    assert blocks("0.19") < blocks("0.26")
    assert blocks("0.19", **{"gpu-memory-utilization": 0.92}) > blocks("0.26")
    assert blocks("0.20") == blocks("0.19")


def test_blocks_of_an_engine_that_ran_are_not_doubted(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path, {"engine": {"vllm": {"num-gpu-blocks-override": 10**6}}}))
    with pytest.raises(ScenarioError, match="more than fits"):
        resolve_replica(loaded)
    assert resolve_replica(loaded, trust_num_gpu_blocks=True).engine.num_gpu_blocks == 10**6


@pytest.mark.parametrize(
    ("vllm", "name"),
    [
        ({"model": "meta-llama/Llama-3.1-70B", "quantization": "fp8"}, "h100-sxm--llama-3.1-70b--fp8--tp2"),
        ({"model": "nvidia/Llama-3.1-70B-Instruct-FP8"}, "h100-sxm--llama-3.1-70b--fp8--tp2"),
        (
            {"model": "RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", "quantization": "compressed-tensors"},
            "h100-sxm--llama-3.1-70b--fp8--tp2",
        ),
        ({"model": "meta-llama/Llama-3.1-70B"}, "h100-sxm--llama-3.1-70b--bf16--tp2"),
    ],
)
def test_weights_are_quantised_by_flag_or_by_the_checkpoint(
    tmp_path: Path, vllm: dict[str, Any], name: str
) -> None:
    common = {
        "tensor-parallel-size": 2,
        "num-gpu-blocks-override": None,
        "max-model-len": 2048,
        "max-num-seqs": 128,
        "max-num-batched-tokens": 2048,
    }
    made = plan(tmp_path, {"engine": {"vllm": {**common, **vllm}}})
    assert made.step_time.profile.name == name
    # 70.6 billion parameters; two bytes each leave H100s little room.
    fp8 = "fp8" in name
    assert made.weight_bytes / 70.6e9 == pytest.approx(1.03 if fp8 else 2.0, rel=0.01)
    assert made.engine.num_gpu_blocks > (10_000 if fp8 else 500)
    assert fp8 or made.engine.num_gpu_blocks < 5_000


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [("awq", "awq weights are not modelled; fp8 and none are"), ("modelopt", "is not known to be quantised")],
)
def test_a_quantisation_that_is_not_modelled_is_refused(
    tmp_path: Path, quantization: str, reason: str
) -> None:
    with pytest.raises(ScenarioError, match=reason):
        plan(tmp_path, {"engine": {"vllm": {"quantization": quantization}}})
