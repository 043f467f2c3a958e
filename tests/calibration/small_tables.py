"""A folder of made-up operator tables, small enough to check by hand."""

from pathlib import Path

import pandas as pd

SYSTEM = {"system": "h100_sxm", "vllm_version": "0.24.0"}
TOKENS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 257, 512, 513, 1024, 1025, 4096]
SIZES = [512, 1024, 4096, 8192, 16384, 51200]


def gemm_us(m: int, n: int, k: int, width: int = 2) -> float:
    """5 us and whatever is more: 1 TB/s of weights or 500 TFLOP/s."""
    return 5.0 + max(n * k * width / 1e6, 2.0 * m * n * k / 500e6)


def write(folder: Path, *, gemm_dtypes: tuple[str, ...] = ("bfloat16", "fp8")) -> Path:
    """Write the five tables of one GPU."""
    pd.DataFrame(
        [
            {**SYSTEM, "gemm_dtype": kind, "kernel_source": "x", "m": m, "n": n, "k": k}
            | {"latency_ms": gemm_us(m, n, k, 1 if kind == "fp8" else 2) / 1e3}
            for kind in gemm_dtypes
            for m in TOKENS
            for n in SIZES
            for k in SIZES
        ]
    ).to_csv(folder / "aic_gemm_vllm.csv", index=False)
    heads = [(h, kv) for kv in (1, 2, 4, 8) for h in (8, 16, 32) if h % kv == 0]
    common = {**SYSTEM, "kernel_source": "vllm_flash_attn_fa3", "head_dim": 128}
    pd.DataFrame(
        [
            {**common, "kv_cache_dtype": cache, "batch_size": b, "isl": length, "num_heads": h}
            | {"num_key_value_heads": kv, "latency_ms": (5.0 + 1e-6 * b * h * length**2) / 1e3}
            for cache in ("bfloat16", "fp8")
            for h, kv in heads
            for b in (1, 2, 4)
            for length in (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384)
        ]
    ).to_csv(folder / "aic_context_attention_vllm.csv", index=False)
    pd.DataFrame(
        [
            {**common, "kv_cache_dtype": cache, "batch_size": b, "kv_len_minus_1": length - 1}
            | {"num_heads": h, "num_key_value_heads": kv, "latency_ms": (5.0 + 1e-3 * b * kv * length) / 1e3}
            for cache in ("bfloat16", "fp8")
            for h, kv in heads
            for b in (1, 2, 4, 8, 16, 32, 64, 128)
            for length in (64, 128, 256, 512, 1024, 2048, 4096, 8192)
        ]
    ).to_csv(folder / "aic_generation_attention_vllm.csv", index=False)
    pd.DataFrame(
        [
            {**SYSTEM, "kernel_source": f"vLLM_custom_{mode}", "allreduce_dtype": "bfloat16"}
            | {"vllm_version": version, "num_gpus": 2, "message_size": size}
            | {"latency_ms": (cost + 2e-6 * size) / 1e3}
            for mode, version, cost in (
                ("graph", "0.9.0", 1.0),
                ("graph", "0.24.0", 4.0),
                ("eager", "0.24.0", 20.0),
            )
            for size in (128, 1_000_000, 100_000_000)
        ]
    ).to_csv(folder / "aic_custom_allreduce_vllm.csv", index=False)
    pd.DataFrame(
        [
            {"system": "h100_sxm", "nccl_version": "2.27.3", "op_name": "all_gather", "nccl_dtype": "half"}
            | {"num_gpus": 2, "message_size": size, "latency_ms": (6.0 + 1e-6 * size) / 1e3}
            for size in (256, 100_000_000)
        ]
    ).to_csv(folder / "aic_nccl.csv", index=False)
    return folder
