"""Settings of a vLLM engine that its scheduling depends on, named as vLLM names them.

Follows vLLM 0.32 ``vllm/config/scheduler.py`` (``SchedulerConfig``) and ``cache.py``; the limits and the
refusals are vLLM's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

CHECKED_VERSIONS: Final = ("0.32",)
"""vLLM versions whose scheduler was compared with this one, decision by decision."""

SAME_RULES_VERSIONS: Final = ("0.19", "0.23", "0.26")
"""Older versions that are run by the same rules, reported as unchecked."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine's scheduler and KV cache settings.

    Attributes:
        num_gpu_blocks: KV blocks, vLLM's null block included: one less is usable.
        max_model_len: longest sequence (prompt and output), tokens.
        max_num_seqs: most requests in the running batch.
        max_num_active_seqs: a lower limit for admissions; None is ``max_num_seqs``.
        max_num_batched_tokens: most tokens computed in one step.
        block_size: tokens in a KV block.
        long_prefill_token_threshold: most tokens of one request in a step while others want some; 0 is off.
        long_prefill_token_threshold_adaptive: raise that to a fair share of the budget.
        scheduler_reserve_full_isl: admit a request only if its whole sequence fits.
        watermark: share of the KV blocks left free by admissions beside running requests.
        max_num_queued_reqs: most unfinished requests before 503; None is no limit.
        max_num_queued_tokens: prompt tokens without a first token from which on 503; None is no limit.
        vllm_version: version whose rules apply, as ``major.minor``.

    Raises:
        ValueError: a setting that vLLM refuses; the message begins with the field's name.
    """

    num_gpu_blocks: int
    max_model_len: int
    max_num_seqs: int = 256
    max_num_active_seqs: int | None = None
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    async_scheduling: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None
    vllm_version: str = "0.32"

    def __post_init__(self) -> None:
        for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")
        if self.num_gpu_blocks < 2:
            raise ValueError(
                f"num_gpu_blocks: must be at least 2, not {self.num_gpu_blocks}; one is the null block"
            )
        for name in ("long_prefill_token_threshold", "max_num_queued_reqs", "max_num_queued_tokens"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: must not be negative, not {value}")
        if self.policy not in ("fcfs", "priority"):
            raise ValueError(f"policy: must be fcfs or priority, not {self.policy!r}")
        if not 0.0 <= self.watermark < 1.0:
            raise ValueError(f"watermark: must be at least 0 and below 1, not {self.watermark}")
        if self.max_num_batched_tokens < self.max_model_len and not self.enable_chunked_prefill:
            raise ValueError(
                f"max_num_batched_tokens: {self.max_num_batched_tokens} is smaller than max_model_len"
                f" {self.max_model_len}, which needs chunked prefill"
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens: {self.max_num_batched_tokens} is smaller than max_num_seqs"
                f" {self.max_num_seqs}"
            )
        active = self.max_num_active_seqs
        if active is not None and not 1 <= active <= self.max_num_seqs:
            raise ValueError(
                f"max_num_active_seqs: must be between 1 and max_num_seqs {self.max_num_seqs}, not {active}"
            )
        if self.long_prefill_token_threshold > self.max_model_len:
            raise ValueError(
                f"long_prefill_token_threshold: {self.long_prefill_token_threshold} is greater than"
                f" max_model_len {self.max_model_len}"
            )
        if self.vllm_version not in CHECKED_VERSIONS + SAME_RULES_VERSIONS:
            known = ", ".join(SAME_RULES_VERSIONS + CHECKED_VERSIONS)
            raise ValueError(f"vllm_version: {self.vllm_version!r} is not known; known are {known}")

    @property
    def version_is_checked(self) -> bool:
        """Whether this version's scheduler was compared with the model."""
        return self.vllm_version in CHECKED_VERSIONS
