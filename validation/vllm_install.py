"""The installed vLLM: its version, and its scheduler with the settings of a schedule.

The settings are put into a configuration that vLLM has made and checked for a tiny model. Works with vLLM 0.26.0
and 0.32.0, whose compiled parts are not needed.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from types import SimpleNamespace
from typing import Any

from simulator.engines.vllm.config import EngineConfig

EOS = 2
"""Token id of the end of a sequence."""


def vllm_version() -> str | None:
    """Version of the installed vLLM, or None."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        import vllm  # noqa: PLC0415
    except ImportError:
        return None
    return str(vllm.__version__)


def tiny_model_config() -> dict[str, Any]:
    """``config.json`` of a Llama small enough for any machine."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "torch_dtype": "bfloat16",
    }


@cache
def _base_config() -> Any:
    """A vLLM configuration for a tiny model; the scheduler reads no more of the model than its lengths."""
    from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
            json.dump(tiny_model_config(), file)
        model = ModelConfig(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=8192
        )
        return VllmConfig(
            model_config=model,
            scheduler_config=SchedulerConfig(max_model_len=8192, is_encoder_decoder=False),
            cache_config=CacheConfig(block_size=16, gpu_memory_utilization=0.9),
            device_config=DeviceConfig(device="cpu"),
        )


def make_scheduler(ours: EngineConfig) -> Any:
    """The ``Scheduler`` or ``AsyncScheduler`` that vLLM would run with these settings."""
    import torch  # noqa: PLC0415
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: PLC0415
    from vllm.v1.core.sched.scheduler import Scheduler  # noqa: PLC0415
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec  # noqa: PLC0415
    from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415

    config = _base_config()
    settings = config.scheduler_config
    for name in ours.rules.missing_settings:
        assert not hasattr(settings, name), f"this vLLM has {name}"
    settings.max_num_seqs = ours.max_num_seqs
    settings.max_num_batched_tokens = ours.max_num_batched_tokens
    settings.max_num_scheduled_tokens = ours.max_num_batched_tokens
    settings.enable_chunked_prefill = ours.enable_chunked_prefill
    settings.async_scheduling = ours.async_scheduling
    settings.policy = ours.policy
    settings.scheduler_reserve_full_isl = ours.scheduler_reserve_full_isl
    settings.watermark = ours.watermark
    settings.long_prefill_token_threshold = ours.long_prefill_token_threshold
    if not ours.rules.missing_settings:
        settings.max_num_active_seqs = ours.max_num_active_seqs
        settings.long_prefill_token_threshold_adaptive = ours.long_prefill_token_threshold_adaptive
        settings.max_num_queued_reqs = ours.max_num_queued_reqs
        settings.max_num_queued_tokens = ours.max_num_queued_tokens
    config.lora_config = None if ours.max_loras is None else _stand_in_lora_config(ours.max_loras)
    config.speculative_config = _speculative_config(ours.num_speculative_tokens)
    config.model_config.max_model_len = ours.max_model_len
    config.cache_config.block_size = ours.block_size
    config.cache_config.enable_prefix_caching = ours.enable_prefix_caching
    config.cache_config.num_gpu_blocks = ours.num_gpu_blocks
    spec = FullAttentionSpec(block_size=ours.block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
    cls = AsyncScheduler if ours.async_scheduling else Scheduler
    return cls(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=ours.num_gpu_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        block_size=ours.block_size,
        log_stats=True,
        structured_output_manager=StructuredOutputManager(config),
    )


def _stand_in_lora_config(max_loras: int) -> Any:
    return SimpleNamespace(max_loras=max_loras)


def _speculative_config(num_speculative_tokens: int) -> Any:
    """An EAGLE head's settings, without a model for vLLM to read."""
    if num_speculative_tokens == 0:
        return None
    from vllm.config import SpeculativeConfig  # noqa: PLC0415

    config = SpeculativeConfig.__new__(SpeculativeConfig)
    config.method = "eagle"
    config.num_speculative_tokens = num_speculative_tokens
    config.parallel_drafting = False
    config.disable_eagle_block_drop = False
    config.num_speculative_tokens_per_batch_size = None
    return config
