from typing import Any

import pytest

from simulator.engines.vllm.config import EngineConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_gpu_blocks": 1}, "num_gpu_blocks: must be at least 2"),
        ({"max_num_seqs": 0}, "max_num_seqs: must be at least 1"),
        ({"block_size": 0}, "block_size: must be at least 1"),
        ({"watermark": 1.0}, "watermark: must be at least 0 and below 1"),
        ({"policy": "lifo"}, "policy: must be fcfs or priority"),
        ({"max_num_queued_reqs": -1}, "max_num_queued_reqs: must not be negative"),
        ({"max_num_active_seqs": 300}, "max_num_active_seqs: must be between 1 and max_num_seqs 256"),
        ({"max_num_batched_tokens": 100}, "max_num_batched_tokens: 100 is smaller than max_num_seqs 256"),
        ({"enable_chunked_prefill": False}, "max_num_batched_tokens: 2048 is smaller than max_model_len"),
        ({"max_loras": 0}, "max_loras: must be at least 1"),
        ({"num_speculative_tokens": -1}, "num_speculative_tokens: must not be negative"),
        (
            {"num_speculative_tokens": 4, "long_prefill_token_threshold": 4},
            "long_prefill_token_threshold: 4 must be 0 or above num_speculative_tokens 4",
        ),
        ({"long_prefill_token_threshold": 5000}, "long_prefill_token_threshold: 5000 is greater than"),
        (
            {"vllm_version": "9.9"},
            "vllm_version: '9.9' is not known; known are 0.19, 0.20, 0.21, 0.22, 0.23, 0.24, 0.25, 0.26, 0.32",
        ),
    ],
)
def test_what_vllm_refuses_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        EngineConfig(**{"num_gpu_blocks": 100, "max_model_len": 4096, **changes})


def test_older_versions_run_unchecked() -> None:
    assert EngineConfig(num_gpu_blocks=100, max_model_len=4096).version_is_checked
    assert not EngineConfig(num_gpu_blocks=100, max_model_len=4096, vllm_version="0.19").version_is_checked
