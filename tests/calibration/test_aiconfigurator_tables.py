"""The composition on made-up tables, by hand."""

from pathlib import Path

import numpy as np
import pytest

from calibration.aiconfigurator_tables import AiconfiguratorTables, _left_out
from calibration.operator_tables import OperatorTables, TablesError
from simulator.catalog import ModelShape, find_gpu, find_model
from tests.calibration.small_tables import gemm_us

H100 = find_gpu("H100-SXM")
SHAPE = ModelShape(
    hidden=4096,
    layers=2,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=8192,
    vocab=51200,
    max_position_embeddings=8192,
)
KERNEL = 2.7


def composed(
    folder: Path, shape: ModelShape = SHAPE, tp: int = 1, dtype: str = "bfloat16"
) -> AiconfiguratorTables:
    return AiconfiguratorTables(OperatorTables(folder), H100, shape, tp, dtype)


def test_one_token_is_four_products_and_five_small_kernels_a_layer(made_up_tables: Path) -> None:
    products = [(6144, 4096), (4096, 4096), (16384, 4096), (4096, 8192)]
    tables = composed(made_up_tables)
    assert tables.products() == products
    layer = sum(gemm_us(1, n, k) for n, k in products) + 5 * KERNEL
    assert tables.terms().dense.us[0] == pytest.approx(2 * layer + 2 * KERNEL, rel=1e-5)


def test_tensor_parallelism_halves_the_products_and_adds_communication(made_up_tables: Path) -> None:
    tables = composed(made_up_tables, tp=2)
    products = [(3072, 4096), (4096, 2048), (8192, 4096), (4096, 4096)]
    assert tables.products() == products
    # The made-up grid has no 3,072 and no 2,048: linear between its neighbours, as its times are.
    layer = sum(gemm_us(1, n, k) for n, k in products) + 5 * KERNEL
    allreduce = 4.0 + 2e-6 * 4096
    expected = 2 * (layer + 2 * allreduce) + 2 * KERNEL + allreduce
    assert tables.terms().dense.us[0] == pytest.approx(expected, rel=1e-5)


def test_fp8_halves_the_weights_and_adds_one_kernel(made_up_tables: Path) -> None:
    tables = composed(made_up_tables, dtype="fp8")
    layer = sum(gemm_us(1, n, k, 1) for n, k in tables.products()) + 6 * KERNEL
    terms = tables.terms()
    assert terms.dense.us[0] == pytest.approx(2 * layer + 2 * KERNEL, rel=1e-5)
    # The output head stays in 16 bits.
    assert terms.per_sequence.us[0] == pytest.approx(gemm_us(1, 51200, 4096) + 25 + 0.54, rel=1e-5)


def test_qk_norm_is_two_more_kernels(made_up_tables: Path) -> None:
    plain = composed(made_up_tables).terms().dense.us[0]
    normed = composed(made_up_tables, SHAPE.model_copy(update={"qk_norm": True})).terms().dense.us[0]
    assert normed - plain == pytest.approx(2 * 2 * KERNEL, rel=1e-3)


def test_attention_lines_are_recovered(made_up_tables: Path) -> None:
    terms = composed(made_up_tables).terms()
    decode = terms.decode_attention
    assert decode.base_us == pytest.approx([2 * 5.0] * len(decode.requests), rel=1e-3)
    assert decode.per_context_token_ns == pytest.approx([2 * 8.0] * len(decode.requests), rel=1e-3)
    prefill = terms.prefill_attention
    # L^2 for a prompt of L: 2 L for each token of context behind a chunk of L.
    chunk = prefill.chunk_tokens.index(4096)
    assert prefill.per_context_token_ns[chunk] == pytest.approx(2 * 2 * 32e-3 * 4096, rel=1e-3)
    for regime in ("pure_decode", "dense"):
        assert np.abs(terms.held_out.relative(regime)).max() < 0.02  # type: ignore[arg-type]


def test_more_gpus_than_kv_heads_replicate_them(made_up_tables: Path) -> None:
    few = SHAPE.model_copy(update={"kv_heads": 1})
    assert composed(made_up_tables, few, tp=2).kv_heads == 1


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "dtype", "reason"),
    [
        ("L4", "meta-llama/Llama-3.1-8B", 1, "bfloat16", "no aiconfigurator tables for L4; there are"),
        ("H100", "meta-llama/Llama-3.1-8B", 3, "bfloat16", "tp 3 does not divide 32 heads"),
        ("H100", "meta-llama/Llama-3.1-8B", 1, "float32", "has GEMM tables of bfloat16, fp8, not of float32"),
        ("A100", "meta-llama/Llama-3.1-8B", 1, "fp8", "A100-80GB-SXM has no fp8 tensor cores"),
    ],
)
def test_what_the_tables_do_not_cover_is_said(
    operator_tables: Path, gpu: str, model: str, tp: int, dtype: str, reason: str
) -> None:
    with pytest.raises(TablesError, match=reason):
        AiconfiguratorTables(
            OperatorTables(operator_tables), find_gpu(gpu), find_model(model).shape, tp, dtype
        )


def test_counts_are_left_out_between_the_edges_of_tiles_only() -> None:
    paired = np.array([1, 2, 4, 8, 64, 65, 96, 97, 128, 129, 160, 161, 256, 257, 512, 513, 1024], dtype=float)
    assert paired[_left_out(paired)].tolist() == [2, 8, 160, 161]
    plain = np.array([1, 2, 4, 256, 512, 1024], dtype=float)
    assert plain[_left_out(plain)].tolist() == [2, 256]
