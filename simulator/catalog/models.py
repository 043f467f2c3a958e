"""Shapes of decoder-only transformers, and what follows from them: parameters, bytes, FLOPs.

Shapes come from models.yaml by Hugging Face name, or from a ``config.json``. The formulas are those of a
Llama-like block: grouped-query attention, gated MLP (or routed experts, all of them gated), RMSNorm.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulator.catalog.lookup import CatalogError, read_table, unknown_name

DTYPE_BYTES: Final[dict[str, int]] = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
"""Bytes per element by vLLM's dtype name; ``fp8`` stands for all its 8-bit variants."""

_DTYPE_ALIASES: Final = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "auto": "bfloat16",
}


def canonical_dtype(name: str) -> str:
    """The name that vLLM has for a dtype (``bf16`` is ``bfloat16``; ``auto`` is taken as ``bfloat16``).

    Raises:
        CatalogError: not one of the dtypes with known size.
    """
    folded = name.casefold()
    dtype = _DTYPE_ALIASES.get(folded, folded)
    if dtype not in DTYPE_BYTES:
        raise unknown_name("dtype", name, [*DTYPE_BYTES, *_DTYPE_ALIASES])
    return dtype


class ModelShape(BaseModel):
    """What determines the cost of a step and of the KV cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0, description="query heads")
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate: int = Field(gt=0, description="width of the gated MLP; of one expert if there are experts")
    vocab: int = Field(gt=0)
    experts: int = Field(default=0, ge=0, description="routed experts per layer; 0 for a dense model")
    top_k: int = Field(default=0, ge=0, description="experts that a token visits")
    tie_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    max_position_embeddings: int = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def _default_head_dim(cls, data: Any) -> Any:
        if (
            isinstance(data, dict)
            and data.get("head_dim") is None
            and data.get("hidden")
            and data.get("heads")
        ):
            return {**data, "head_dim": data["hidden"] // data["heads"]}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) is not a multiple of kv_heads ({self.kv_heads})")
        if self.top_k > self.experts or (self.experts > 0) != (self.top_k > 0):
            raise ValueError(f"top_k ({self.top_k}) does not go with experts ({self.experts})")
        return self

    @property
    def attention_parameters(self) -> int:
        """Weights of one layer's QKV and output projections, with bias and QK norm."""
        queries = self.heads * self.head_dim
        keys = self.kv_heads * self.head_dim
        bias = queries + 2 * keys if self.qkv_bias else 0
        norms = 2 * self.head_dim if self.qk_norm else 0
        return self.hidden * (queries + 2 * keys) + queries * self.hidden + bias + norms

    @property
    def mlp_parameters(self) -> int:
        """Weights of one gated MLP, or of one expert."""
        return 3 * self.hidden * self.intermediate

    @property
    def layer_parameters(self) -> int:
        """All weights of one layer, norms and router included."""
        router = self.experts * self.hidden
        return (
            self.attention_parameters + max(self.experts, 1) * self.mlp_parameters + router + 2 * self.hidden
        )

    @property
    def parameters(self) -> int:
        """All weights of the model."""
        embeddings = self.vocab * self.hidden * (1 if self.tie_embeddings else 2)
        return self.layers * self.layer_parameters + embeddings + self.hidden

    @property
    def active_parameters(self) -> int:
        """Weights that one token multiplies with: its experts only, the output head, no embedding table."""
        idle = (self.experts - self.top_k) * self.mlp_parameters if self.experts else 0
        return self.layers * (self.layer_parameters - idle) + self.vocab * self.hidden + self.hidden

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of all weights. With fp8, embeddings and output head stay in 16 bits, as is usual."""
        width = DTYPE_BYTES[canonical_dtype(dtype)]
        embeddings = self.vocab * self.hidden * (1 if self.tie_embeddings else 2)
        return (self.parameters - embeddings) * width + embeddings * max(width, 2)

    def kv_bytes_per_token(self, dtype: str = "bfloat16") -> int:
        """Bytes of keys and values that one token keeps in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * DTYPE_BYTES[canonical_dtype(dtype)]

    def flops_per_token(self, context_tokens: int = 0) -> int:
        """Operations of one token: 2 per active weight, 4 per head element and context token."""
        attention = 4 * self.layers * self.heads * self.head_dim * context_tokens
        return 2 * self.active_parameters + attention


class Model(BaseModel):
    """A model by name with its shape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: ModelShape
    source: str
    quantisation: str | None = None
    """``fp8`` if the checkpoint's weights are, else the method that its configuration names; None for none."""


@cache
def _models() -> dict[str, Model]:
    table = read_table("models.yaml")
    source: str = table["defaults_source"]
    models = {}
    for entry in table["models"]:
        shape = ModelShape.model_validate(entry["shape"])
        for key, quantisation in (("names", None), ("fp8_names", "fp8")):
            for name in entry.get(key, ()):
                models[name] = Model(name=name, shape=shape, source=source, quantisation=quantisation)
    return models


def model_names() -> list[str]:
    """All built-in model names, in the table's order."""
    return list(_models())


def find_model(name: str) -> Model:
    """A built-in model by Hugging Face name (case does not matter), or one from a ``config.json``.

    Args:
        name: Hugging Face name, or the path of a ``config.json`` or of the folder that holds one.

    Raises:
        CatalogError: unknown name, with the close matches; or a file that is not such a configuration.
    """
    by_folded = {known.casefold(): model for known, model in _models().items()}
    model = by_folded.get(name.casefold())
    if model is not None:
        return model
    path = Path(name)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    if path.is_file():
        return model_from_config(path)
    raise unknown_name("model", name, _models(), "(or give the path of its Hugging Face config.json)")


def model_from_config(path: Path) -> Model:
    """The shape that a Hugging Face ``config.json`` describes.

    Raises:
        CatalogError: unreadable file, missing keys, or an attention scheme that has no shape here (MLA).
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(config, dict):
        raise CatalogError(f"{path}: expected a JSON object")
    whole, config = config, config.get("text_config", config)
    if config.get("kv_lora_rank"):
        raise CatalogError(f"{path}: multi-head latent attention (kv_lora_rank) is not modelled")
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    try:
        shape = ModelShape(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            intermediate=(config.get("moe_intermediate_size") if experts else None)
            or config["intermediate_size"],
            vocab=config["vocab_size"],
            experts=experts,
            top_k=int(config.get("num_experts_per_tok") or 0) if experts else 0,
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=str(config.get("model_type", "")) == "qwen2"
            or bool(config.get("attention_bias", False)),
            qk_norm=str(config.get("model_type", "")).startswith("qwen3"),
            max_position_embeddings=config["max_position_embeddings"],
        )
    except KeyError as error:
        raise CatalogError(f"{path}: key {error.args[0]} is missing") from None
    except (ValidationError, TypeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise CatalogError(f"{path}: not a decoder's configuration: {first}") from None
    name = config.get("_name_or_path") or str(path)
    return Model(name=name, shape=shape, source=str(path), quantisation=_quantisation(whole))


def _quantisation(config: dict[str, Any]) -> str | None:
    """What ``quantization_config`` says of the weights: ``fp8`` (one scale per tensor, channel or token), or a name.

    The forms are those of vLLM 0.26 (``model_executor/layers/quantization``): its own fp8, FBGEMM's, ModelOpt's
    and compressed-tensors'. Scales per block run other kernels and are told apart.
    """
    quantised = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(quantised, dict):
        return None
    method = str(quantised.get("quant_method", "unnamed"))
    algorithm = quantised.get("quant_algo") or (quantised.get("quantization") or {}).get("quant_algo")
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8_per_block" if quantised.get("weight_block_size") else "fp8"
    if method == "modelopt" or algorithm:
        return "fp8" if algorithm == "FP8" else f"{method} {algorithm}"
    if method == "compressed-tensors":
        groups = (quantised.get("config_groups") or {}).values()
        parts = [group.get(part) or {} for group in groups for part in ("weights", "input_activations")]
        if parts and all((part.get("num_bits"), part.get("type")) == (8, "float") for part in parts):
            blocks = any(part.get("strategy") == "block" for part in parts)
            return "fp8_per_block" if blocks else "fp8"
    return method
