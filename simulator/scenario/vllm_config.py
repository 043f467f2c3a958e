"""Reads a ``vllm serve --config`` YAML as users have it, and resolves vLLM's defaults for a GPU.

Keys are vLLM's long argument names, with dashes or underscores. Values are read as vLLM 0.32 reads them
(``vllm/utils/argparse_utils.py``, ``load_config_file``): ``true`` is the flag, ``false`` its ``no-`` form,
``8k`` is 8000 and ``8K`` is 8192. Defaults are those of ``vllm/engine/arg_utils.py`` for the API server.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from simulator.engines.vllm.config import EngineConfig
from simulator.scenario.errors import ScenarioError
from simulator.scenario.vllm_arguments import NOT_MODELLED, REMOVED, WITHOUT_EFFECT
from simulator.scenario.yaml_source import YamlSource

_GIB: Final = 2**30
_DECIMAL: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _human_readable_int(value: Any) -> Any:
    """``1k`` is 1000, ``1K`` is 1024, ``25.6k`` is 25600; anything else is left to the type."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)([kKmMgGtT])\s*", value) if isinstance(value, str) else None
    if match is None:
        return value
    number, suffix = match.groups()
    if suffix in _DECIMAL:
        return int(float(number) * _DECIMAL[suffix])
    if "." in number:
        raise ValueError(
            f"expected a whole number before {suffix}; {number}{suffix.lower()} is the decimal unit"
        )
    return int(number) * _BINARY[suffix]


def _auto_is_none(value: Any) -> Any:
    automatic = value == -1 or (isinstance(value, str) and value.strip().lower() in ("auto", "-1"))
    return None if automatic else _human_readable_int(value)


Tokens = Annotated[int, BeforeValidator(_human_readable_int)]


class VllmServeConfig(BaseModel):
    """What of a ``vllm serve`` command line the model needs; None stands for vLLM's default.

    Attributes:
        notes: what a user should know of how keys were understood, in the order of the file.
        file: where it was read; None for keys written elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    model: str | None = None
    served_model_name: str | list[str] | None = None
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float", "float16", "float32", "half"] = "auto"
    quantization: str | None = None
    load_format: str = "auto"
    enforce_eager: bool = False
    optimization_level: int | str | None = None
    performance_mode: Literal["balanced", "interactivity", "throughput"] = "balanced"

    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    data_parallel_size: int = Field(default=1, ge=1)

    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    kv_cache_memory_bytes: Annotated[Tokens, Field(ge=1)] | None = None
    kv_cache_dtype: str = "auto"
    block_size: int | None = Field(default=None, ge=1)
    num_gpu_blocks_override: int | None = Field(default=None, ge=2)
    enable_prefix_caching: bool | None = None

    max_model_len: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_auto_is_none)] = None
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_active_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: Annotated[Tokens, Field(ge=1)] | None = None
    enable_chunked_prefill: bool | None = None
    long_prefill_token_threshold: int = Field(default=0, ge=0)
    long_prefill_token_threshold_adaptive: bool = False
    async_scheduling: bool | None = None
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    scheduler_reserve_full_isl: bool = True
    watermark: float = Field(default=0.0, ge=0, lt=1)
    max_num_queued_reqs: int | None = Field(default=None, ge=0)
    max_num_queued_tokens: Annotated[Tokens, Field(ge=0)] | None = None

    shutdown_timeout: int = Field(default=0, ge=0)
    """Seconds that requests in flight may take after SIGTERM; 0 aborts them."""
    host: str | None = None
    port: int = Field(default=8000, ge=0, le=65535)

    notes: tuple[str, ...] = Field(default=(), exclude=True)
    file: str | None = Field(default=None, exclude=True)


_ALIASES: Final = {"device_memory_utilization": "gpu_memory_utilization"}
_FIELDS: Final = frozenset(VllmServeConfig.model_fields) - {"notes", "file"}
_FLAGS: Final = frozenset(
    name for name in _FIELDS if VllmServeConfig.model_fields[name].annotation in (bool, bool | None)
)


def load_vllm_config(path: str | Path, *, refuse_unknown: bool = True) -> VllmServeConfig:
    """Read a ``vllm serve --config`` file.

    Args:
        path: of the file.
        refuse_unknown: an unknown key is an error; else it is left out and noted (another release's, say).

    Raises:
        ScenarioError: with file, key and reason; unknown keys are told with the nearest known one.
    """
    source = YamlSource(Path(path))
    try:
        return parse_vllm_config(source.data, file=str(path), refuse_unknown=refuse_unknown)
    except ScenarioError as error:
        place = source.where([error.key]) if error.key else str(path)
        raise ScenarioError(error.reason, file=place, key=error.key) from None


def parse_vllm_config(
    data: dict[str, Any], *, file: str | None = None, refuse_unknown: bool = True
) -> VllmServeConfig:
    """Take the keys of a ``vllm serve --config`` file; see `load_vllm_config`.

    Raises:
        ScenarioError: with key and reason.
    """
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    notes: list[str] = []
    for key, value in data.items():
        name = str(key).replace("_", "-")
        field, read = _field(name, value)
        if field is None:
            notes.extend(_note(str(key), name, value, file, refuse_unknown))
            continue
        if field in written:
            raise ScenarioError(f"says again what {written[field]!r} says", file=file, key=str(key))
        written[field] = str(key)
        if read is not None or value is not None:
            values[field] = read
    try:
        config = VllmServeConfig(**values, file=file)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        key = written.get(str(details["loc"][0]), str(details["loc"][0]))
        raise ScenarioError(_reason(details["msg"], data.get(key)), file=file, key=key) from None
    if config.data_parallel_size > 1:
        notes.append("data-parallel-size: a replica is simulated as one engine; use more replicas instead")
    return config.model_copy(update={"notes": tuple(notes)})


def _field(name: str, value: Any) -> tuple[str | None, Any]:
    """The field that an argument sets and the value it gives; (None, None) for one that is not read."""
    field = name.replace("-", "_")
    field = _ALIASES.get(field, field)
    if field in _FIELDS:
        return field, value
    positive = field.removeprefix("no_")
    if positive in _FLAGS and value is True:
        return positive, False
    return None, None


def _note(key: str, name: str, value: Any, file: str | None, refuse_unknown: bool) -> list[str]:
    positive = name.removeprefix("no-")
    if name in REMOVED:
        return [f"{key}: {REMOVED[name]}"]
    if name in NOT_MODELLED:
        return [] if value in (False, None, 0) else [f"{key}: {NOT_MODELLED[name]} is not modelled"]
    if name in WITHOUT_EFFECT or positive in WITHOUT_EFFECT:
        return []
    if positive.replace("-", "_") in _FLAGS:
        if value is False:
            return [f"{key}: false is ignored, as vLLM ignores it; write {positive}: true"]
        raise ScenarioError(f"expected true or false, got {value!r}", file=file, key=key)
    known = sorted({field.replace("_", "-") for field in _FIELDS} | WITHOUT_EFFECT | set(REMOVED))
    close = difflib.get_close_matches(positive, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    if not refuse_unknown:
        return [f"{key}: not an argument of vllm serve that is known here, left out{hint}"]
    raise ScenarioError(f"vllm serve has no such argument{hint}", file=file, key=key)


def _reason(message: str, value: Any) -> str:
    text = message.removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{text[:1].lower()}{text[1:]}, got {value!r}"


def resolve_engine_config(
    config: VllmServeConfig,
    *,
    gpu_memory_bytes: float,
    gpu_name: str,
    num_gpu_blocks: int,
    max_model_len: int,
    vllm_version: str = "0.32",
) -> EngineConfig:
    """Fill in what vLLM's API server takes by default on this GPU.

    Args:
        config: the user's settings.
        gpu_memory_bytes: memory of one GPU.
        gpu_name: its name; vLLM treats an A100 as a small GPU.
        num_gpu_blocks: KV blocks, null block included; ``num_gpu_blocks_override`` wins over it.
        max_model_len: the model's own limit, for a config that sets none.
        vllm_version: release whose rules apply.

    Raises:
        ValueError: a combination that vLLM refuses; the message begins with the setting's name.
    """
    if gpu_memory_bytes >= 160 * _GIB:
        default_tokens, default_seqs = 16384, 1024
    elif gpu_memory_bytes >= 70 * _GIB and "a100" not in gpu_name.lower():
        default_tokens, default_seqs = 8192, 1024
    else:
        default_tokens, default_seqs = 2048, 256
    if config.performance_mode == "throughput":
        default_tokens, default_seqs = 2 * default_tokens, 2 * default_seqs
    length = config.max_model_len or max_model_len
    chunked = config.enable_chunked_prefill is not False
    seqs = config.max_num_seqs or default_seqs
    tokens = config.max_num_batched_tokens
    if tokens is None:
        tokens = default_tokens if chunked else max(length, default_tokens)
        tokens = min(seqs * length, tokens)
    if config.max_num_seqs is None:
        seqs = min(seqs, tokens)
    return EngineConfig(
        num_gpu_blocks=config.num_gpu_blocks_override or num_gpu_blocks,
        max_model_len=length,
        max_num_seqs=seqs,
        max_num_active_seqs=config.max_num_active_seqs,
        max_num_batched_tokens=tokens,
        block_size=config.block_size or 16,
        enable_prefix_caching=config.enable_prefix_caching is not False,
        enable_chunked_prefill=chunked,
        async_scheduling=config.async_scheduling is not False,
        policy=config.scheduling_policy,
        scheduler_reserve_full_isl=config.scheduler_reserve_full_isl,
        watermark=config.watermark,
        long_prefill_token_threshold=config.long_prefill_token_threshold,
        long_prefill_token_threshold_adaptive=config.long_prefill_token_threshold_adaptive,
        max_num_queued_reqs=config.max_num_queued_reqs,
        max_num_queued_tokens=config.max_num_queued_tokens,
        vllm_version=vllm_version,
    )
