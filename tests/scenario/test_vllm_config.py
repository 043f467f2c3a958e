from pathlib import Path
from typing import Any

import pytest

from simulator.scenario.errors import ScenarioError
from simulator.scenario.vllm_config import (
    VllmServeConfig,
    load_vllm_config,
    parse_vllm_config,
    resolve_engine_config,
)

GIB = 2**30

REAL_FILE = """\
model: "meta-llama/Llama-2-70b-hf"
served-model-name: "llama-2-70b"
tensor-parallel-size: 4
pipeline-parallel-size: 1
gpu-memory-utilization: 0.92
max-num-batched-tokens: 8192
max-num-seqs: 256
block-size: 16
swap-space: 4
max-logprobs: 5
disable-log-requests: false
host: "0.0.0.0"
port: 8000
"""


def resolve(config: VllmServeConfig, memory_gib: float = 80, gpu: str = "H100-SXM", **kwargs: Any) -> Any:
    arguments = {"num_gpu_blocks": 1000, "max_model_len": 4096, **kwargs}
    return resolve_engine_config(config, gpu_memory_bytes=memory_gib * GIB, gpu_name=gpu, **arguments)


def test_a_real_file_loads_unchanged_and_notes_what_vllm_dropped(tmp_path: Path) -> None:
    path = tmp_path / "vllm-config.yaml"
    path.write_text(REAL_FILE)
    config = load_vllm_config(path)
    assert config.model == "meta-llama/Llama-2-70b-hf"
    assert config.tensor_parallel_size == 4
    assert config.max_num_batched_tokens == 8192
    assert [note.split(":")[0] for note in config.notes] == ["swap-space", "disable-log-requests"]


def test_dashes_and_underscores_are_the_same() -> None:
    dashes = parse_vllm_config({"max-num-seqs": 4, "enforce-eager": True})
    assert dashes == parse_vllm_config({"max_num_seqs": 4, "enforce_eager": True})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"enable-prefix-caching": False}, {"enable_prefix_caching": False}),
        ({"no-enable-prefix-caching": True}, {"enable_prefix_caching": False}),
        ({"no-async-scheduling": True}, {"async_scheduling": False}),
        ({"no-scheduler-reserve-full-isl": True}, {"scheduler_reserve_full_isl": False}),
        ({"max-model-len": "8k"}, {"max_model_len": 8000}),
        ({"max-model-len": "8K"}, {"max_model_len": 8192}),
        ({"max-model-len": "25.6k"}, {"max_model_len": 25600}),
        ({"max-model-len": "auto"}, {}),
        ({"max-model-len": -1}, {}),
        ({"max-num-seqs": None}, {}),
        ({"device-memory-utilization": 0.5}, {"gpu_memory_utilization": 0.5}),
        ({"served-model-name": ["a", "b"]}, {"served_model_name": ["a", "b"]}),
        ({"max-logprobs": 5, "no-trust-remote-code": True, "uvicorn-log-level": "info"}, {}),
    ],
)
def test_values_are_read_as_vllm_reads_them(data: dict[str, Any], expected: dict[str, Any]) -> None:
    config = parse_vllm_config(data)
    assert config.model_dump(exclude_defaults=True) == expected
    assert config.notes == ()


@pytest.mark.parametrize(
    ("data", "key", "reason"),
    [
        ({"max-num-seq": 4}, "max-num-seq", "did you mean max-num-seqs?"),
        ({"enforce-eagre": True}, "enforce-eagre", "did you mean enforce-eager?"),
        ({"nonsense": 1}, "nonsense", "no such argument"),
        ({"max_num_seqs": "many"}, "max_num_seqs", "got 'many'"),
        ({"max-num-seqs": 0}, "max-num-seqs", "greater than or equal to 1"),
        ({"max-model-len": "1.5K"}, "max-model-len", "1.5k is the decimal unit"),
        ({"max-model-len": 0}, "max-model-len", "greater than or equal to 1"),
        ({"gpu-memory-utilization": 92}, "gpu-memory-utilization", "less than or equal to 1"),
        ({"scheduling-policy": "lifo"}, "scheduling-policy", "'fcfs' or 'priority'"),
        ({"no-enforce-eager": "maybe"}, "no-enforce-eager", "expected true or false"),
        ({"max-num-seqs": 1, "max_num_seqs": 2}, "max_num_seqs", "'max-num-seqs' says"),
    ],
)
def test_a_mistake_names_key_and_reason(data: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_vllm_config(data, file="vllm.yaml")
    assert caught.value.key == key
    assert caught.value.file == "vllm.yaml"
    assert reason in caught.value.reason


def test_a_mistake_in_a_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "vllm.yaml"
    path.write_text("model: m\nmax-num-seqs: many\n")
    with pytest.raises(ScenarioError, match=r"vllm\.yaml:2: max-num-seqs: "):
        load_vllm_config(path)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ({"speculative-config": {"method": "ngram"}}, "speculative decoding is not modelled"),
        ({"enable-lora": True}, "LoRA adapters is not modelled"),
        ({"data-parallel-size": 2}, "use more replicas"),
        ({"num-scheduler-steps": 8}, "removed from vLLM"),
        ({"no-enforce-eager": False}, "false is ignored"),
    ],
)
def test_what_is_not_modelled_or_gone_is_noted(data: dict[str, Any], note: str) -> None:
    assert note in parse_vllm_config(data).notes[0]


def test_switched_off_features_need_no_note() -> None:
    assert parse_vllm_config({"enable-lora": False, "cpu-offload-gb": 0}).notes == ()


@pytest.mark.parametrize(
    ("memory_gib", "gpu", "tokens", "seqs"),
    [
        (180, "B200-SXM", 16384, 1024),
        (141, "H200-SXM", 8192, 1024),
        (80, "H100-SXM", 8192, 1024),
        (96, "RTXPRO6000", 8192, 1024),
        (80, "A100-80GB-SXM", 2048, 256),
        (24, "L4", 2048, 256),
    ],
)
def test_defaults_depend_on_the_gpu(memory_gib: float, gpu: str, tokens: int, seqs: int) -> None:
    engine = resolve(VllmServeConfig(), memory_gib, gpu)
    assert (engine.max_num_batched_tokens, engine.max_num_seqs) == (tokens, seqs)
    assert engine.async_scheduling
    assert engine.enable_prefix_caching
    assert engine.enable_chunked_prefill
    assert engine.block_size == 16
    assert engine.max_model_len == 4096


def test_default_token_budget_is_bounded_by_the_batch_and_covers_unchunked_prompts() -> None:
    assert resolve(VllmServeConfig(max_num_seqs=2), max_model_len=100).max_num_batched_tokens == 200
    unchunked = VllmServeConfig(enable_chunked_prefill=False)
    assert resolve(unchunked, max_model_len=131072).max_num_batched_tokens == 131072


def test_default_batch_is_bounded_by_the_token_budget() -> None:
    assert resolve(VllmServeConfig(max_num_batched_tokens=512)).max_num_seqs == 512


def test_throughput_mode_doubles_the_defaults_that_were_not_set() -> None:
    engine = resolve(VllmServeConfig(performance_mode="throughput", max_num_seqs=100))
    assert (engine.max_num_batched_tokens, engine.max_num_seqs) == (16384, 100)


def test_settings_reach_the_engine() -> None:
    config = VllmServeConfig(
        max_model_len=2000,
        num_gpu_blocks_override=77,
        block_size=32,
        async_scheduling=False,
        enable_prefix_caching=False,
        scheduling_policy="priority",
        watermark=0.01,
        max_num_queued_reqs=5,
    )
    engine = resolve(config)
    assert engine.max_model_len == 2000
    assert engine.num_gpu_blocks == 77
    assert engine.block_size == 32
    assert not engine.async_scheduling
    assert not engine.enable_prefix_caching
    assert engine.policy == "priority"
    assert engine.watermark == 0.01
    assert engine.max_num_queued_reqs == 5


def test_what_vllm_refuses_names_the_setting() -> None:
    with pytest.raises(ValueError, match=r"^max_num_batched_tokens: 8 is smaller than max_num_seqs 16"):
        resolve(VllmServeConfig(max_num_seqs=16, max_num_batched_tokens=8))
