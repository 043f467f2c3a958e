"""How many KV-cache blocks a GPU has left, as vLLM finds it when it starts.

vLLM takes ``gpu_memory_utilization`` of the GPU's total memory and subtracts the weights, the peak of a
profiling run with ``max_num_batched_tokens`` tokens and ``max_num_seqs`` sampled requests, what CUDA and
NCCL hold outside PyTorch, and (by default since 0.21, vllm-project/vllm pull request 30515) the CUDA graphs.
The rest becomes blocks (``vllm/v1/worker/gpu_worker.py``, ``determine_available_memory``). The peak is
derived here from the shapes of the tensors that are alive together.

Checked against blocks that engines reported (graphs not counted in any of them; nothing was fitted to them):

====================================  ========  =========  ======
deployment                            reported  estimated   error
====================================  ========  =========  ======
RTX4090, Llama-3.1-8B, vLLM 0.19         2,588      2,643  +2.1 %
2 x H100-SXM, CodeLlama-34B (*)         26,602     26,443  -0.6 %
4 x H100-SXM, Llama-2-70B (*)           31,356     31,214  -0.5 %
====================================  ========  =========  ======

The first with utilisation 0.9, 2,048 batched tokens, 256 sequences (LLMServingSim 5daddb21). (*) the flags
are inferred from the steps of the trace (inference-sim): 0.9, 2,048, 128.
"""

from __future__ import annotations

from typing import Final

from simulator.catalog import DTYPE_BYTES, Gpu, ModelShape, canonical_dtype
from simulator.step_time.profile import KvCacheRecord
from simulator.step_time.tables import cudagraph_capture_sizes

_GIB: Final = 2**30

NON_TORCH_BYTES: Final = round(0.25 * _GIB)
"""CUDA context and libraries beside PyTorch's allocator; vLLM logs show 0.1 to 0.3 GiB."""

NCCL_BYTES: Final = round(0.5 * _GIB)
"""Communication buffers of tensor parallelism; order of magnitude."""

GRAPH_BYTES_PER_SIZE_AND_LAYER: Final = 0.3 * 2**20
"""CUDA graphs: some 0.5 GiB for 51 captured sizes of a 32-layer model; order of magnitude."""

# Per sampled request and vocabulary entry: 16-bit logits, their fp32 copy, sorted values, 64-bit indices,
# softmax and cumulative sum of the top-k/top-p sampler that the profiling run exercises.
_SAMPLER_BYTES: Final = 2 + 4 + 4 + 8 + 4 + 4


class DoesNotFitError(ValueError):
    """The weights, or a single request of the largest length, do not fit. The message says what would."""


def activation_bytes(
    shape: ModelShape, dtype: str, tp: int, max_num_batched_tokens: int, max_num_seqs: int
) -> int:
    """Peak of the profiling run on one GPU: the larger of the forward pass and the sampler."""
    width = max(DTYPE_BYTES[canonical_dtype(dtype)], 2)
    mlp = 3 * shape.intermediate * max(shape.top_k, 1) // tp
    attention = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim // tp
    forward = max_num_batched_tokens * width * (4 * shape.hidden + mlp + attention)
    sampler = min(max_num_seqs, max_num_batched_tokens) * shape.vocab * _SAMPLER_BYTES
    return max(forward, sampler)


def _per_gpu_bytes(
    shape: ModelShape,
    *,
    dtype: str,
    tp: int,
    pp: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    cuda_graphs: bool,
) -> int:
    """Everything but the KV cache on one GPU."""
    weights = shape.weight_bytes(dtype) // (tp * pp)
    peak = activation_bytes(shape, dtype, tp, max_num_batched_tokens, max_num_seqs)
    captured = len(cudagraph_capture_sizes(max_num_seqs)) if cuda_graphs else 0
    graphs = round(GRAPH_BYTES_PER_SIZE_AND_LAYER * captured * shape.layers / pp)
    return weights + peak + NON_TORCH_BYTES + (NCCL_BYTES if tp * pp > 1 else 0) + graphs


def num_kv_blocks(
    gpu: Gpu,
    shape: ModelShape,
    *,
    dtype: str = "bfloat16",
    kv_cache_dtype: str = "auto",
    tp: int = 1,
    pp: int = 1,
    gpu_memory_utilization: float = 0.92,
    block_size: int = 16,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 256,
    max_model_len: int | None = None,
    enforce_eager: bool = False,
    count_cuda_graphs: bool = True,
    recorded: KvCacheRecord | None = None,
) -> int:
    """KV blocks of a replica of ``tp * pp`` GPUs, as vLLM reports them (``num_gpu_blocks``).

    One of them is vLLM's null block, which no request gets.

    Args:
        gpu: GPU of the catalog.
        shape: the model.
        dtype: of the weights; activations are 16 bits wide at least.
        kv_cache_dtype: ``auto`` is 16 bits; fp8 variants halve the cache.
        tp: tensor-parallel degree. Beyond the number of KV heads they are replicated.
        pp: pipeline stages.
        gpu_memory_utilization: vLLM's flag, share of the total memory.
        block_size: tokens per block.
        max_num_batched_tokens: vLLM's flag.
        max_num_seqs: vLLM's flag.
        max_model_len: if given, one request of this length must fit, as vLLM demands.
        enforce_eager: no CUDA graphs, hence no memory for them.
        count_cuda_graphs: vLLM takes the graphs off by default since 0.21; before, it did not.
        recorded: what a real engine reported; used instead of the estimate if its flags are the same.

    Raises:
        DoesNotFitError: says how many GPUs would do.
    """
    if recorded is not None and (
        recorded.block_size,
        recorded.gpu_memory_utilization,
        recorded.max_num_batched_tokens,
        recorded.max_num_seqs,
        recorded.enforce_eager,
    ) == (block_size, gpu_memory_utilization, max_num_batched_tokens, max_num_seqs, enforce_eager):
        return recorded.num_blocks
    cache_dtype = dtype if kv_cache_dtype == "auto" and canonical_dtype(dtype) != "fp8" else kv_cache_dtype
    graphs = count_cuda_graphs and not enforce_eager

    def room(tp_degree: int) -> tuple[int, int]:
        """(bytes left for the cache, bytes of one block) on one GPU."""
        used = _per_gpu_bytes(
            shape,
            dtype=dtype,
            tp=tp_degree,
            pp=pp,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            cuda_graphs=graphs,
        )
        replicated = max(tp_degree / shape.kv_heads, 1.0)
        block = block_size * shape.kv_bytes_per_token(cache_dtype) * replicated / (tp_degree * pp)
        return int(gpu.memory_bytes * gpu_memory_utilization) - used, round(block)

    def enough(tp_degree: int) -> bool:
        left, block = room(tp_degree)
        return left // block >= max(1, -(-(max_model_len or 1) // block_size))

    left, block = room(tp)
    if enough(tp):
        return left // block
    weights_gib = shape.weight_bytes(dtype) / _GIB
    fitting = [degree for degree in (1, 2, 4, 8, 16, 32, 64) if degree > tp and enough(degree)]
    advice = (
        f"tensor-parallel-size {fitting[0]} would do" if fitting else "no tensor-parallel degree would do"
    )
    if left >= block and max_model_len:
        longest = left // block * block_size
        raise DoesNotFitError(
            f"one request of max_model_len {max_model_len} does not fit the KV cache of "
            f"{tp * pp} x {gpu.id}: there is room for {longest} tokens; lower max-model-len, or {advice}"
        )
    raise DoesNotFitError(
        f"{weights_gib:.1f} GiB of {canonical_dtype(dtype)} weights and working memory do not fit "
        f"{tp * pp} x {gpu.id} ({gpu.memory_bytes / _GIB:.1f} GiB each) at gpu_memory_utilization "
        f"{gpu_memory_utilization}; {advice}"
    )
