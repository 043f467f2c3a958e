"""Settings of a vLLM engine that its scheduling depends on, named as vLLM names them.

Follows vLLM ``vllm/config/scheduler.py`` (``SchedulerConfig``), ``cache.py``, ``lora.py`` and
``speculative.py``; the limits and the refusals are vLLM's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from simulator.engines.vllm.rules import CHECKED_VERSIONS, Rules, rules_of


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
        max_loras: most adapters in one step; None is no LoRA.
        num_speculative_tokens: drafts of each decode by an EAGLE or MTP head; 0 is no speculation.
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
    max_loras: int | None = None
    num_speculative_tokens: int = 0
    vllm_version: str = "0.32"

    def __post_init__(self) -> None:
        for setting in fields(self):
            if setting.name in self.rules.missing_settings and getattr(self, setting.name) != setting.default:
                raise ValueError(f"{setting.name}: vLLM {self.vllm_version} has no such setting")
        for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")
        if self.num_gpu_blocks < 2:
            raise ValueError(
                f"num_gpu_blocks: must be at least 2, not {self.num_gpu_blocks}; one is the null block"
            )
        if self.max_loras is not None and self.max_loras < 1:
            raise ValueError(f"max_loras: must be at least 1, not {self.max_loras}")
        for name in (
            "long_prefill_token_threshold",
            "max_num_queued_reqs",
            "max_num_queued_tokens",
            "num_speculative_tokens",
        ):
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
        if 0 < self.long_prefill_token_threshold <= self.num_speculative_tokens:
            raise ValueError(
                f"long_prefill_token_threshold: {self.long_prefill_token_threshold} must be 0 or above"
                f" num_speculative_tokens {self.num_speculative_tokens}; vLLM fails on padded drafts else"
            )
        too_long = self.long_prefill_token_threshold > self.max_model_len
        if too_long and self.rules.refuses_threshold_over_model_len:
            raise ValueError(
                f"long_prefill_token_threshold: {self.long_prefill_token_threshold} is greater than"
                f" max_model_len {self.max_model_len}"
            )

    @property
    def rules(self) -> Rules:
        """Scheduling rules of ``vllm_version``."""
        return rules_of(self.vllm_version)

    def long_prefill_threshold(self, num_requests: int) -> int:
        """Most tokens of one request in a step with that many requests, waiting ones included; 0 is no limit."""
        threshold = self.long_prefill_token_threshold
        if threshold == 0 or (num_requests <= 1 and self.rules.threshold_spares_lone_request):
            return 0
        if self.long_prefill_token_threshold_adaptive:
            return max(threshold, self.max_num_batched_tokens // num_requests)
        return threshold

    def num_slots(self, num_computed: int) -> int:
        """Tokens that need a slot: a drafting head writes behind the last one that is computed."""
        return min(num_computed + self.num_speculative_tokens, self.max_model_len)

    @property
    def version_is_checked(self) -> bool:
        """Whether this version's scheduler was compared with the model."""
        return self.vllm_version in CHECKED_VERSIONS
