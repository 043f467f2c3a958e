"""One check of the host: ``preflight.py NAME MANIFEST.json``; the last line is ``RESULT`` and a JSON object.

Each result is ``{"status": "ok" | "failed" | "left out", "detail": …}``. Checks that need a GPU are left out without.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Check = Callable[[dict[str, Any]], str]

MODULES = (
    "numba",
    "vllm",
    "vllm.v1.engine.async_llm",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.entrypoints.openai.api_server",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen3",
    "pynvml",
    "pyarrow.parquet",
    "calibration.capture",
)
TOLERANCE = 0.05  # bf16 has 8 bits of mantissa; values are of order 1


class LeftOutError(Exception):
    """No GPU: the check was not made."""


def need_gpu() -> Any:
    """The torch module, if there is a GPU."""
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        raise LeftOutError("no GPU")
    return torch


def check_module(name: str) -> Check:
    """A check that a module can be imported."""

    def imports(manifest: dict[str, Any]) -> str:
        module = importlib.import_module(name)
        return str(getattr(module, "__version__", "") or "imported")

    return imports


def check_libraries(manifest: dict[str, Any]) -> str:
    """Each compiled library of vLLM loads and registers its operators."""
    import torch  # noqa: PLC0415

    names = [name for name in manifest["vllm_libraries"] if name.endswith(".so")]
    try:
        for name in names:
            importlib.import_module(name.split(".")[0].replace("/", "."))
    except ImportError as error:
        if "libcuda.so" in str(error):
            raise LeftOutError("no GPU driver") from None
        raise
    torch.ops._C.rms_norm  # noqa: B018 - raises where the operator is not registered
    torch.ops._C_cache_ops.reshape_and_cache_flash  # noqa: B018
    return f"{len(names)} loaded"


def check_torch(manifest: dict[str, Any]) -> str:
    """The torch that the bundle was made for."""
    import torch  # noqa: PLC0415

    wanted, has = manifest["host"]["torch"], str(torch.__version__)
    if has.split("+", maxsplit=1)[0].split(".")[:2] != wanted.split("+")[0].split(".")[:2]:
        raise RuntimeError(f"torch {has}, the bundle is for {wanted}")
    cuda, wanted_cuda = torch.version.cuda, manifest["host"]["cuda"]
    if cuda is None or (wanted_cuda is not None and int(cuda.split(".")[0]) != wanted_cuda):
        raise RuntimeError(f"torch for CUDA {cuda}, the bundle is for CUDA {wanted_cuda}")
    return f"{has}, CUDA {cuda}"


def check_gpu(manifest: dict[str, Any]) -> str:
    """The GPU that the bundle was made for, and vLLM sees it."""
    torch = need_gpu()
    has = "sm_{}{}".format(*torch.cuda.get_device_capability())
    if has != manifest["host"]["arch"]:
        raise RuntimeError(
            f"{torch.cuda.get_device_name()} is {has}, the bundle is for {manifest['host']['arch']}"
        )
    from vllm.platforms import current_platform  # noqa: PLC0415

    if not current_platform.is_cuda():
        raise RuntimeError(f"vLLM takes this host for {type(current_platform).__name__}")
    return f"{torch.cuda.get_device_name()}, {has}"


def compare(torch: Any, got: Any, expected: Any) -> str:
    """Largest difference, if it is as small as bf16 makes it."""
    error = (got.float() - expected.float()).abs().max().item()
    if not error < TOLERANCE:
        raise RuntimeError(f"differs from torch's own by {error}")
    return f"differs from torch's own by {error:.1e}"


def check_rms_norm(manifest: dict[str, Any]) -> str:
    """A kernel of the pruned library against torch."""
    torch = need_gpu()
    from vllm import _custom_ops as ops  # noqa: PLC0415

    x = torch.randn(16, 2048, device="cuda", dtype=torch.bfloat16)
    weight, got = torch.rand(2048, device="cuda", dtype=torch.bfloat16), torch.empty_like(x)
    ops.rms_norm(got, x, weight, 1e-6)
    return compare(torch, got, torch.nn.functional.rms_norm(x.float(), (2048,), weight.float(), 1e-6))


def check_cache_and_attention(manifest: dict[str, Any]) -> str:
    """Keys and values written into paged blocks by one kernel, and attended to by the other."""
    torch = need_gpu()
    from vllm import _custom_ops as ops  # noqa: PLC0415
    from vllm.vllm_flash_attn import flash_attn_varlen_func  # noqa: PLC0415

    tokens, heads, kv_heads, size, block = 75, 8, 2, 128, 16
    options: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    query = torch.randn(1, heads, size, **options)
    key, value = (torch.randn(tokens, kv_heads, size, **options) for _ in range(2))
    blocks = -(-tokens // block)
    key_cache, value_cache = (torch.zeros(blocks, block, kv_heads, size, **options) for _ in range(2))
    scale = torch.ones(1, device="cuda")
    slots = torch.arange(tokens, device="cuda")
    ops.reshape_and_cache_flash(key, value, key_cache, value_cache, slots, "auto", scale, scale)
    if not torch.equal(value_cache.view(-1, kv_heads, size)[:tokens], value):
        raise RuntimeError("reshape_and_cache_flash wrote something else")
    got = flash_attn_varlen_func(
        query,
        key_cache,
        value_cache,
        max_seqlen_q=1,
        cu_seqlens_q=torch.tensor([0, 1], device="cuda", dtype=torch.int32),
        max_seqlen_k=tokens,
        seqused_k=torch.tensor([tokens], device="cuda", dtype=torch.int32),
        block_table=torch.arange(blocks, device="cuda", dtype=torch.int32).unsqueeze(0),
        causal=True,
        fa_version=3 if manifest["host"]["arch"] == "sm_90" else 2,
    )
    group = heads // kv_heads
    wide_key, wide_value = (t.float().repeat_interleave(group, 1).transpose(0, 1) for t in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.float().transpose(0, 1), wide_key, wide_value
    )
    return compare(torch, got, expected.transpose(0, 1))


def check_compile(manifest: dict[str, Any]) -> str:
    """torch.compile makes and runs a kernel (needs Triton, a C compiler and Python's headers)."""
    torch = need_gpu()

    def scaled_silu(x: Any) -> Any:
        return torch.nn.functional.silu(x) * x.float().square().mean(-1, keepdim=True).rsqrt()

    x = torch.randn(32, 1024, device="cuda", dtype=torch.bfloat16)
    return compare(torch, torch.compile(scaled_silu)(x), scaled_silu(x))


def check_graph(manifest: dict[str, Any]) -> str:
    """A CUDA graph is captured and replayed."""
    torch = need_gpu()
    x, weight = torch.ones(8, 64, device="cuda"), torch.eye(64, device="cuda")
    _ = x @ weight  # the first product makes its workspace, which must not happen in a graph
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x @ weight
    x.fill_(3)
    graph.replay()
    torch.cuda.synchronize()
    return compare(torch, y, x)


def tiny_model(folder: str) -> str:
    """A folder with the configuration of a Llama of two layers; vLLM makes its weights up."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 1024,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def check_engine(manifest: dict[str, Any]) -> str:
    """An engine starts, with compilation and CUDA graphs, and generates."""
    need_gpu()
    return generate_with_tiny_model()


def generate_with_tiny_model() -> str:
    """Start an engine on a tiny model and generate from three prompts."""
    from vllm import LLM, SamplingParams  # noqa: PLC0415

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        llm = LLM(
            model=tiny_model(folder),
            load_format="dummy",
            skip_tokenizer_init=True,
            max_model_len=1024,
            max_num_seqs=8,
            gpu_memory_utilization=0.3,
            disable_log_stats=True,
        )
        ready = time.monotonic() - started
        sampling = SamplingParams(max_tokens=16, ignore_eos=True, temperature=0.0, detokenize=False)
        prompts: Any = [
            {"prompt_token_ids": [(7 * i + n) % 1000 + 3 for i in range(n)]} for n in (5, 40, 300)
        ]
        answers = [
            len(answer.outputs[0].token_ids) for answer in llm.generate(prompts, sampling, use_tqdm=False)
        ]
    if answers != [16, 16, 16]:
        raise RuntimeError(f"generated {answers} tokens, asked for 16 three times")
    return f"ready after {ready:.1f} s, generated {sum(answers)} tokens"


CHECKS: dict[str, dict[str, Check]] = {
    "imports": {**{f"import {name}": check_module(name) for name in MODULES}, "libraries": check_libraries},
    "versions": {"torch": check_torch, "gpu": check_gpu},
    "kernels": {
        "rms_norm": check_rms_norm,
        "attention": check_cache_and_attention,
        "CUDA graph": check_graph,
    },
    "compile": {"torch.compile": check_compile},
    "engine": {"engine": check_engine},
}


def run(name: str, manifest: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Results of one group of checks."""
    results = {}
    for check, function in CHECKS[name].items():
        try:
            results[check] = {"status": "ok", "detail": function(manifest)}
        except LeftOutError as reason:
            results[check] = {"status": "left out", "detail": str(reason)}
        except Exception as error:  # whatever it is, the other checks are made
            traceback.print_exc()
            text = str(error).strip().splitlines() or [""]
            results[check] = {"status": "failed", "detail": f"{type(error).__name__}: {text[0]}"}
    return results


if __name__ == "__main__":
    found = run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    print("RESULT " + json.dumps(found), flush=True)
