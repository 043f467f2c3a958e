"""The step-time profile: a small, versioned, human-readable file that says how long engine steps take.

A profile holds whole-model times of one GPU group (all layers, one tensor-parallel rank's critical path) as
knot tables. Between knots the model interpolates linearly: logarithmic interpolation of GEMM times gave 12 to
14 % error where linear gave 2 to 4 %. A step's GPU time is the sum of

- ``dense``: everything whose cost depends on the tokens in the step (projections, MLP, norms, all-reduce);
- ``per_sequence``: output head and sampler, once per scheduled request;
- ``decode_attention`` in a pure decode step: base(n) + per_context_token(n) x summed context, which is how
  paged decode attention measures (R² 0.9999 on two GPUs);
- ``prefill_attention`` for each chunk of c tokens behind k cached ones: base(c) + per_context_token(c) x k,
  the launch cost counted once per step;
- ``mixed_attention``: what n decoding requests add beside prefill chunks: base(n, chunk tokens) +
  per_context_token(n) x summed context. Their attention is dearer there (unified kernels do not split the
  context), so it has its own coefficients;
- ``longest_context_ns(n)`` x (longest context - mean context) in both: a kernel that does not split contexts
  ends with the longest one;
- ``overhead_us``: gaps between kernels and the launch of the graph.

The JSON Schema of the format is ``StepTimeProfile.model_json_schema()`` (docs and editors use it).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulator.catalog import ModelShape

SCHEMA_VERSION: Final = 2
"""Version 2 added, all optional: eager or graphs, limits of the summed context, median and p90 of errors, errors on
validation loads, start-up phases, uncertainty, notes on the range, the cost of the longest context. Files of
version 1 have none of these."""

Times = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
Counts = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class ProfileError(ValueError):
    """A profile file that cannot be used; the message names the file, the key and the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _check_rising(name: str, values: list[int]) -> None:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{name} must rise strictly")


class Identity(_Part):
    """What the times are of."""

    gpu: str
    """GPU id of the catalog; ``CPU`` for records of a CPU, which no scenario can choose."""
    model: str
    """Hugging Face name of the model that was profiled."""
    shape: ModelShape
    """Any model of this shape (up to the context limit) has these times."""
    dtype: str
    kv_cache_dtype: str
    quantisation: str | None = None
    tp: int = Field(ge=1)
    """Tensor-parallel GPUs."""
    pp: int = Field(ge=1)
    """Pipeline stages."""
    engine: str = "vllm"
    engine_version: str
    attention_backend: str | None = None
    enforce_eager: bool | None = None
    """Whether the records are of an engine without CUDA graphs; none where kernels were timed alone."""


class TokenKnots(_Part):
    """Time against tokens in the step, whole model."""

    tokens: Counts
    us: Times

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _check_rising("tokens", self.tokens)
        if len(self.tokens) != len(self.us):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.us)} us")
        return self


class SequenceKnots(_Part):
    """Time against scheduled requests: output head and sampler."""

    sequences: Counts
    us: Times

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _check_rising("sequences", self.sequences)
        if len(self.sequences) != len(self.us):
            raise ValueError(f"{len(self.sequences)} sequences but {len(self.us)} us")
        return self


class DecodeAttention(_Part):
    """Pure decode: base(n) + per_context_token(n) x summed context, all layers."""

    requests: Counts
    base_us: Times
    per_context_token_ns: Times
    max_context_tokens: int = Field(gt=0)
    """Largest context per request behind the fit."""
    max_summed_context_tokens: int | None = Field(default=None, gt=0)
    """Largest summed context behind the fit, where that is the narrower limit for large batches."""
    heterogeneity: float = Field(default=1.0, ge=1.0)
    """Factor on the context term for contexts that differ within a batch, where their spread is not known."""
    longest_context_ns: Times | None = None
    """Cost of each token by which the longest context exceeds the mean, one per entry of ``requests``."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _check_rising("requests", self.requests)
        if not len(self.requests) == len(self.base_us) == len(self.per_context_token_ns):
            raise ValueError("requests, base_us and per_context_token_ns differ in length")
        if self.longest_context_ns is not None and len(self.longest_context_ns) != len(self.requests):
            raise ValueError("requests and longest_context_ns differ in length")
        return self


class PrefillAttention(_Part):
    """A chunk of c tokens behind k cached: base(c) + per_context_token(c) x k, all layers."""

    chunk_tokens: Counts
    base_us: Times
    per_context_token_ns: Times
    launch_us: float = Field(ge=0)
    """Part of base that several chunks in one step pay once."""
    max_context_tokens: int = Field(gt=0)

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _check_rising("chunk_tokens", self.chunk_tokens)
        if not len(self.chunk_tokens) == len(self.base_us) == len(self.per_context_token_ns):
            raise ValueError("chunk_tokens, base_us and per_context_token_ns differ in length")
        return self


class MixedAttention(_Part):
    """What n decoding requests add to a step that has prefill chunks, all layers."""

    requests: Counts
    chunk_tokens: Counts
    """Prefill tokens of the step, summed over its chunks."""
    base_us: list[Times]
    """One row per entry of ``requests``, one column per entry of ``chunk_tokens``."""
    per_context_token_ns: Times
    """One per entry of ``requests``; up to the knee."""
    knee_context_tokens: int | None = Field(default=None, gt=0)
    """Summed context from which a token costs more, where the tables show one."""
    above_knee_ns: Times | None = None
    """Cost of a context token above the knee, one per entry of ``requests``."""
    longest_context_ns: Times | None = None
    """As in pure decode."""
    max_context_tokens: int = Field(gt=0)
    max_summed_context_tokens: int | None = Field(default=None, gt=0)
    """As in pure decode."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        _check_rising("requests", self.requests)
        _check_rising("chunk_tokens", self.chunk_tokens)
        if not len(self.requests) == len(self.base_us) == len(self.per_context_token_ns):
            raise ValueError("requests, base_us and per_context_token_ns differ in length")
        if (self.knee_context_tokens is None) != (self.above_knee_ns is None):
            raise ValueError("knee_context_tokens and above_knee_ns go together")
        if self.above_knee_ns is not None and len(self.above_knee_ns) != len(self.requests):
            raise ValueError("requests and above_knee_ns differ in length")
        if self.longest_context_ns is not None and len(self.longest_context_ns) != len(self.requests):
            raise ValueError("requests and longest_context_ns differ in length")
        if any(len(row) != len(self.chunk_tokens) for row in self.base_us):
            raise ValueError("every row of base_us needs one entry per chunk_tokens")
        return self


class HostTime(_Part):
    """CPU time per step of scheduling, input preparation and output processing."""

    base_us: float = Field(ge=0)
    per_request_us: float = Field(ge=0)
    preparation_us: float | None = Field(default=None, ge=0)
    """Part of ``base_us`` that a synchronous engine spends between launch and output, and that asynchronous
    scheduling hides behind the GPU; none where no asynchronous engine was captured."""
    source: str

    @model_validator(mode="after")
    def _part_of_base(self) -> Self:
        if (self.preparation_us or 0.0) > self.base_us:
            raise ValueError("preparation_us is a part of base_us, and larger")
        return self


class FrontEnd(_Part):
    """Time of a request outside the engine core: HTTP, tokenisation, detokenisation, streaming."""

    request_us: float = Field(ge=0)
    """From the arrival at the server to the engine's input queue, without tokenisation."""
    per_prompt_token_us: float = Field(ge=0)
    """Tokenisation."""
    response_us: float = Field(ge=0)
    """From the end of a step to the token's departure."""
    source: str


class Terms(_Part):
    """The coefficients."""

    dense: TokenKnots
    per_sequence: SequenceKnots
    decode_attention: DecodeAttention
    prefill_attention: PrefillAttention
    mixed_attention: MixedAttention
    overhead_us: float = Field(ge=0)
    """Per step: gaps between kernels, launch of the graph."""
    eager_floor_us: float = Field(ge=0)
    """With ``enforce_eager`` the CPU launches each kernel: the part of a step outside context attention
    takes at least this."""


class FitError(_Part):
    """Error of the fit in one regime, on rows that were held out of it."""

    regime: Literal["dense", "pure_decode", "pure_prefill", "mixed"]
    rows: int = Field(gt=0)
    mean_abs_pct: float = Field(ge=0)
    median_abs_pct: float | None = Field(default=None, ge=0)
    p90_abs_pct: float | None = Field(default=None, ge=0)
    p95_abs_pct: float = Field(ge=0)
    bias_pct: float
    of: str
    """What the percentages are of."""


class KvCacheRecord(_Part):
    """Number of KV blocks that a real engine reported, with the flags that it depends on."""

    num_blocks: int = Field(gt=0)
    block_size: int = Field(gt=0)
    gpu_memory_utilization: float = Field(gt=0, le=1)
    max_num_batched_tokens: int = Field(gt=0)
    max_num_seqs: int = Field(gt=0)
    enforce_eager: bool
    source: str


class StartUp(_Part):
    """One start of the engine behind the records, process start to ready."""

    compile_cache: Literal["cold", "warm", "none"]
    """Whether compiled kernels were on disk already; none: nothing is compiled."""
    phases_s: dict[str, float]
    """Length of each phase by name: process, weights, compile, graph_capture, kv_cache, ready."""
    ready_s: float = Field(ge=0)
    """From process start until the engine took requests."""


TermGroup = Literal["dense", "decode_attention", "prefill_attention", "mixed_attention", "host"]


class Uncertainty(_Part):
    """How well the records determine the coefficients, for draws in an outer loop (`perturbed`).

    The factors of the groups of terms are near 1 with this covariance; a further factor, common to all GPU terms,
    stands for what no resampling of the records shows: the model's own bias on cells held out of the fit.
    """

    groups: list[TermGroup] = Field(min_length=1)
    covariance: list[list[float]]
    """Of the groups' relative errors, in the order of ``groups``."""
    common_relative_error: float = Field(ge=0)
    """Standard deviation of the factor that all GPU terms share."""
    standard_errors: dict[str, list[float]] = Field(default_factory=dict)
    """Of single coefficients, by their path in ``terms``; same order and unit as these."""
    source: str

    @model_validator(mode="after")
    def _is_covariance(self) -> Self:
        size = len(self.groups)
        if len(set(self.groups)) != size:
            raise ValueError("groups: each may be named once")
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise ValueError(f"covariance: {size} groups need {size} x {size} entries")
        matrix = np.array(self.covariance)
        if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-15):
            raise ValueError("covariance: not symmetric")
        scale = max(float(np.abs(matrix).max()), 1e-300)
        if float(np.linalg.eigvalsh(matrix / scale).min()) < -1e-3:
            raise ValueError("covariance: has a negative eigenvalue")
        return self


class StepTimeProfile(_Part):
    """A profile; see the module's text for what the terms mean."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    name: str
    source: Literal["fitted profile", "composed from kernels", "roofline"]
    known_error: str
    """How far the times are to be trusted, in a sentence."""
    identity: Identity
    terms: Terms
    host: HostTime
    front_end: FrontEnd
    kv_cache: KvCacheRecord | None = None
    fit_error: list[FitError] = Field(default_factory=list)
    validation_error: list[FitError] | None = None
    """Error on the steps of validation loads, which no fit has seen."""
    uncertainty: Uncertainty | None = None
    startup: list[StartUp] | None = None
    range_notes: list[str] | None = None
    """Where the records have holes, and what that leaves to interpolation."""
    assumptions: list[str] = Field(default_factory=list)
    """Figures in the profile that were not measured on this GPU and model."""
    provenance: dict[str, Any]
    """Files, versions, licence of the records behind it, and the command that made it."""

    @model_validator(mode="after")
    def _version_has_its_parts(self) -> Self:
        newer = {
            "validation_error": self.validation_error,
            "uncertainty": self.uncertainty,
            "startup": self.startup,
            "range_notes": self.range_notes,
            "host.preparation_us": self.host.preparation_us,
            "identity.enforce_eager": self.identity.enforce_eager,
            "terms.decode_attention.longest_context_ns": self.terms.decode_attention.longest_context_ns,
            "terms.mixed_attention.longest_context_ns": self.terms.mixed_attention.longest_context_ns,
            "terms.decode_attention.max_summed_context_tokens": (
                self.terms.decode_attention.max_summed_context_tokens
            ),
            "terms.mixed_attention.max_summed_context_tokens": (
                self.terms.mixed_attention.max_summed_context_tokens
            ),
        }
        given = [key for key, value in newer.items() if value is not None]
        if self.schema_version == 1 and given:
            raise ValueError(f"{given[0]} needs schema_version 2")
        return self


def load_profile(path: Path) -> StepTimeProfile:
    """Read a profile file.

    Raises:
        ProfileError: unreadable, not YAML, or not a profile; names the file and the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: {error}") from None
    try:
        return StepTimeProfile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise ProfileError(f"{path}: {key}: {first['msg']}") from None


class _CompactDumper(yaml.SafeDumper):
    """Lists of numbers on one line (wrapped), mappings in block style."""


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.nodes.Node:
    flow = all(isinstance(item, int | float) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_CompactDumper.add_representer(list, _represent_list)


def dump_profile(profile: StepTimeProfile) -> str:
    """The profile as YAML, keys in the schema's order."""
    data = profile.model_dump(mode="json", exclude_none=True)
    return yaml.dump(data, Dumper=_CompactDumper, sort_keys=False, width=100, allow_unicode=True)
