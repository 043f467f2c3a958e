import json
from pathlib import Path

import pytest

from simulator.catalog import CatalogError, canonical_dtype, find_model, model_from_config, model_names

# Parameter counts (billions) that the model cards state.
STATED = {
    "meta-llama/Llama-2-7b-hf": 6.74,
    "meta-llama/Llama-2-13b-hf": 13.02,
    "meta-llama/Llama-2-70b-hf": 68.98,
    "meta-llama/Llama-3.1-8B": 8.03,
    "meta-llama/Llama-3.1-70B": 70.55,
    "meta-llama/Llama-3.1-405B": 405.85,
    "meta-llama/Llama-3.2-1B": 1.24,
    "meta-llama/Llama-3.2-3B": 3.21,
    "codellama/CodeLlama-34b-hf": 33.74,
    "mistralai/Mistral-7B-v0.1": 7.24,
    "mistralai/Mixtral-8x7B-v0.1": 46.70,
    "mistralai/Mixtral-8x22B-v0.1": 140.6,
    "Qwen/Qwen2.5-0.5B": 0.49,
    "Qwen/Qwen2.5-1.5B": 1.54,
    "Qwen/Qwen2.5-3B": 3.09,
    "Qwen/Qwen2.5-7B": 7.61,
    "Qwen/Qwen2.5-14B": 14.77,
    "Qwen/Qwen2.5-32B": 32.76,
    "Qwen/Qwen2.5-72B": 72.71,
    "Qwen/Qwen3-0.6B": 0.60,
    "Qwen/Qwen3-1.7B": 1.72,
    "Qwen/Qwen3-4B": 4.02,
    "Qwen/Qwen3-8B": 8.19,
    "Qwen/Qwen3-14B": 14.77,
    "Qwen/Qwen3-32B": 32.76,
    "Qwen/Qwen3-30B-A3B": 30.53,
}


@pytest.mark.parametrize("name", sorted(STATED))
def test_parameter_count_is_the_model_cards(name: str) -> None:
    assert find_model(name).shape.parameters / 1e9 == pytest.approx(STATED[name], abs=0.01, rel=0.002)


def test_llama_3_1_8b_by_hand() -> None:
    shape = find_model("meta-llama/Llama-3.1-8B").shape
    assert shape.parameters == 8_030_261_248
    assert shape.weight_bytes("bf16") == 2 * 8_030_261_248
    # Keys and values: 2 x 32 layers x 8 heads x 128 x 2 bytes.
    assert shape.kv_bytes_per_token() == 131_072
    assert shape.kv_bytes_per_token("fp8") == 65_536
    # Without context: 2 per weight except the embedding table (128,256 x 4,096).
    assert shape.flops_per_token() == 2 * (8_030_261_248 - 128_256 * 4_096)
    assert shape.flops_per_token(1000) - shape.flops_per_token() == 4 * 32 * 32 * 128 * 1000


def test_fp8_weights_keep_embeddings_in_sixteen_bits() -> None:
    shape = find_model("meta-llama/Llama-3.1-8B").shape
    embeddings = 2 * 128_256 * 4_096
    assert shape.weight_bytes("fp8") == (8_030_261_248 - embeddings) + 2 * embeddings


def test_active_parameters_of_a_mixture_of_experts() -> None:
    shape = find_model("mistralai/Mixtral-8x7B-v0.1").shape
    assert shape.active_parameters / 1e9 == pytest.approx(12.75, abs=0.01)


def test_aliases_share_a_shape() -> None:
    assert (
        find_model("meta-llama/Meta-Llama-3-8B-Instruct").shape == find_model("meta-llama/Llama-3-8B").shape
    )
    assert find_model("QWEN/qwen3-8b").name == "Qwen/Qwen3-8B"
    assert len(model_names()) == len(set(model_names()))


def test_unknown_model_lists_close_matches() -> None:
    with pytest.raises(CatalogError, match=r"unknown model .*Llama-3\.1-8'; did you mean meta-llama"):
        find_model("meta-llama/Llama-3.1-8")


def test_config_json_gives_the_same_shape(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "max_position_embeddings": 131072,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_model(str(tmp_path)).shape == find_model("meta-llama/Llama-3.1-8B").shape


def test_config_json_of_a_qwen3_mixture(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "model_type": "qwen3_moe",
                "hidden_size": 2048,
                "num_hidden_layers": 48,
                "num_attention_heads": 32,
                "num_key_value_heads": 4,
                "head_dim": 128,
                "intermediate_size": 6144,
                "moe_intermediate_size": 768,
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "vocab_size": 151936,
                "max_position_embeddings": 40960,
            }
        )
    )
    assert model_from_config(path).shape == find_model("Qwen/Qwen3-30B-A3B").shape


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a readable JSON"),
        ("[]", "expected a JSON object"),
        ('{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}', "key intermediate_size"),
        ('{"kv_lora_rank": 512}', "multi-head latent attention"),
    ],
)
def test_broken_config_names_the_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(CatalogError, match=reason) as error:
        find_model(str(path))
    assert str(path) in str(error.value)


def test_dtype_names() -> None:
    assert canonical_dtype("BF16") == canonical_dtype("auto") == "bfloat16"
    with pytest.raises(CatalogError, match="unknown dtype 'int3'"):
        canonical_dtype("int3")


FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "tensor"}


@pytest.mark.parametrize(
    ("section", "quantisation"),
    [
        (None, None),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_per_block"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4"}}, "modelopt NVFP4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": FLOAT8, "input_activations": FLOAT8}},
            },
            "fp8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "compressed-tensors",
        ),
        ({"quant_method": "awq", "bits": 4}, "awq"),
    ],
)
def test_quantisation_of_a_checkpoint(
    tmp_path: Path, section: dict[str, object] | None, quantisation: str
) -> None:
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "intermediate_size": 8192,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
        **({"quantization_config": section} if section else {}),
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert model_from_config(path).quantisation == quantisation


def test_fp8_checkpoints_of_the_catalogue_share_the_shape() -> None:
    fp8 = find_model("nvidia/Llama-3.1-70B-Instruct-FP8")
    assert fp8.quantisation == "fp8"
    assert fp8.shape == find_model("meta-llama/Llama-3.1-70B").shape
    assert find_model("meta-llama/Llama-3.1-70B").quantisation is None
