import pytest

from simulator.catalog import find_gpu, find_model
from simulator.step_time import DoesNotFitError, KvCacheRecord, num_kv_blocks

LLAMA_8B = find_model("meta-llama/Llama-3.1-8B").shape
LLAMA_70B = find_model("meta-llama/Llama-2-70b-hf").shape


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "max_num_seqs", "reported"),
    [
        ("RTX4090", "meta-llama/Llama-3.1-8B", 1, 256, 2588),
        ("H100-SXM", "codellama/CodeLlama-34b-hf", 2, 128, 26602),
        ("H100-SXM", "meta-llama/Llama-2-70b-hf", 4, 128, 31356),
    ],
)
def test_estimate_is_close_to_what_engines_reported(
    gpu: str, model: str, tp: int, max_num_seqs: int, reported: int
) -> None:
    blocks = num_kv_blocks(
        find_gpu(gpu),
        find_model(model).shape,
        tp=tp,
        gpu_memory_utilization=0.9,
        max_num_batched_tokens=2048,
        max_num_seqs=max_num_seqs,
        count_cuda_graphs=False,
    )
    assert blocks == pytest.approx(reported, rel=0.025)


def test_each_flag_moves_the_right_way() -> None:
    gpu = find_gpu("H100-SXM")
    base = num_kv_blocks(gpu, LLAMA_8B)
    assert num_kv_blocks(gpu, LLAMA_8B, gpu_memory_utilization=0.8) < base
    assert num_kv_blocks(gpu, LLAMA_8B, max_num_seqs=1024) < base
    assert num_kv_blocks(gpu, LLAMA_8B, max_num_batched_tokens=16384) < base
    assert num_kv_blocks(gpu, LLAMA_8B, enforce_eager=True) > base
    assert num_kv_blocks(gpu, LLAMA_8B, enforce_eager=True) == num_kv_blocks(
        gpu, LLAMA_8B, enforce_eager=True, count_cuda_graphs=False
    )
    assert num_kv_blocks(gpu, LLAMA_8B, tp=2) > 2 * base
    # Blocks of twice the tokens are half as many, fp8 entries twice as many; up to rounding.
    assert num_kv_blocks(gpu, LLAMA_8B, block_size=32) == base // 2
    assert num_kv_blocks(gpu, LLAMA_8B, kv_cache_dtype="fp8") // 2 == base


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    gpu = find_gpu("H100-SXM")
    wide = num_kv_blocks(gpu, LLAMA_8B, tp=16)
    # 16 GPUs hold 8 KV heads twice: the cache per GPU does not shrink any more.
    assert wide == pytest.approx(num_kv_blocks(gpu, LLAMA_8B, tp=8), rel=0.03)


def test_a_record_is_used_only_for_its_own_flags() -> None:
    record = KvCacheRecord(
        num_blocks=2588,
        block_size=16,
        gpu_memory_utilization=0.9,
        max_num_batched_tokens=2048,
        max_num_seqs=256,
        enforce_eager=False,
        source="test",
    )
    gpu = find_gpu("RTX4090")
    assert num_kv_blocks(gpu, LLAMA_8B, gpu_memory_utilization=0.9, recorded=record) == 2588
    assert num_kv_blocks(gpu, LLAMA_8B, gpu_memory_utilization=0.92, recorded=record) != 2588


def test_weights_that_do_not_fit_say_how_many_gpus_would() -> None:
    with pytest.raises(DoesNotFitError, match=r"128\.5 GiB of bfloat16 .* tensor-parallel-size 2 would do"):
        num_kv_blocks(find_gpu("A100-80GB-SXM"), LLAMA_70B)
    with pytest.raises(DoesNotFitError, match="tensor-parallel-size 8 would do"):
        num_kv_blocks(find_gpu("L4"), LLAMA_70B, tp=4, max_num_seqs=128)


def test_a_request_of_the_largest_length_must_fit() -> None:
    gpu = find_gpu("L4")
    with pytest.raises(DoesNotFitError, match=r"max_model_len 131072 does not fit .* room for \d+ tokens"):
        num_kv_blocks(gpu, LLAMA_8B, max_model_len=131072)
    assert num_kv_blocks(gpu, LLAMA_8B, max_model_len=8192) * 16 >= 8192
