"""The engine: GPU, vLLM's version, and every key that decides which blocks are held."""

from __future__ import annotations

from random import Random
from typing import Any

_MAX_MODEL_LEN = 2048


def draw_engine(rng: Random) -> dict[str, Any]:
    """The scenario's ``engine``."""
    one = rng.choice
    version = one(("0.32", "0.32", "0.32", "0.26", "0.19"))
    chunked = rng.random() < 0.8
    seqs = one((2, 16, 64))
    vllm: dict[str, Any] = {
        "model": "meta-llama/Llama-3.1-8B",
        "max-model-len": _MAX_MODEL_LEN,
        "tensor-parallel-size": one((1, 1, 1, 2)),
        "block-size": one((16, 16, 32)),
        "num-gpu-blocks-override": one((129, 200, 1000)),
        "max-num-seqs": seqs,
        "max-num-batched-tokens": one((256, 2048)) if chunked else one((_MAX_MODEL_LEN, 4096)),
        "enable-chunked-prefill": chunked,
        "scheduling-policy": one(("fcfs", "priority")),
        "enable-prefix-caching": one((True, False)),
        "async-scheduling": one((True, False)),
        "scheduler-reserve-full-isl": one((True, True, False)),
        "watermark": one((0.0, 0.0, 0.05, 0.3)),
        "long-prefill-token-threshold": one((0, 0, 128)),
        "shutdown-timeout": one((0, 10)),
        "enforce-eager": one((True, False)),
    }
    if version == "0.32":
        vllm["long-prefill-token-threshold-adaptive"] = one((True, False))
        for key, value in (
            ("max-num-active-seqs", one((None, None, 2))),
            ("max-num-queued-reqs", one((None, None, 4, 30))),
            ("max-num-queued-tokens", one((None, None, 3000))),
        ):
            if value is not None:
                vllm[key] = value
    return {
        "gpu": one(("H100-SXM", "H100-SXM", "A100-80GB-SXM", "L40S")),
        "vllm": vllm,
        "vllm_version": version,
        "engine_impl": one(("skipping", "skipping", "plain")),
        "frontend_in": one((None, None, "0s", "30ms")),
        "frontend_out": one((None, None, "0s", "5ms")),
    }
