"""What vLLM's scheduler does differently from one release to another.

Each switch is one difference between vLLM 0.26 and 0.32 in ``vllm/v1/core/sched/scheduler.py``,
``kv_cache_manager.py`` and ``config/scheduler.py`` that changes a decision or a counter. Everything else in
this package holds for both releases. Two more tell how many KV blocks a release finds at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Rules:
    """Scheduling rules of one release.

    Attributes:
        threshold_spares_lone_request: ``long_prefill_token_threshold`` does not cut the only request there is.
        unscheduled_victim_shifts_turn: when the priority policy preempts a request that stands before the
            current one and was passed over in this step, the current one keeps its turn. Where this is False
            the loop passes over the request behind the current one.
        skipped_wait_apart: requests that admission skipped stand in a queue of their own, ahead of all
            others, so a preempted request comes behind them. Else it comes first.
        lookups_are_queries: every look-up in the prefix cache counts as a query, also those of a request that
            is then not admitted. Else only admissions count.
        refuses_threshold_over_model_len: whether ``long_prefill_token_threshold`` may not exceed it.
        missing_settings: settings that this release does not have.
        counts_cuda_graphs: whether start-up takes the memory of CUDA graphs off the KV cache's (since 0.21,
            vllm-project/vllm pull request 30515; ``gpu_worker.py`` logs "default since v0.21.0").
        gpu_memory_utilization: default of the flag (0.9 in the configuration that 0.19 resolved by default; 0.92
            since the graphs are counted).
    """

    threshold_spares_lone_request: bool
    unscheduled_victim_shifts_turn: bool
    skipped_wait_apart: bool
    lookups_are_queries: bool
    refuses_threshold_over_model_len: bool
    missing_settings: tuple[str, ...] = ()
    counts_cuda_graphs: bool = True
    gpu_memory_utilization: float = 0.92


_RULES_0_26: Final = Rules(
    threshold_spares_lone_request=False,
    unscheduled_victim_shifts_turn=False,
    skipped_wait_apart=True,
    lookups_are_queries=True,
    refuses_threshold_over_model_len=False,
    missing_settings=(
        "max_num_active_seqs",
        "long_prefill_token_threshold_adaptive",
        "max_num_queued_reqs",
        "max_num_queued_tokens",
    ),
)

_RULES_0_32: Final = Rules(
    threshold_spares_lone_request=True,
    unscheduled_victim_shifts_turn=True,
    skipped_wait_apart=False,
    lookups_are_queries=False,
    refuses_threshold_over_model_len=True,
)

CHECKED_VERSIONS: Final = ("0.26", "0.32")
"""vLLM versions whose scheduler was compared with this one, decision by decision."""

_BEFORE_0_21: Final = replace(_RULES_0_26, counts_cuda_graphs=False, gpu_memory_utilization=0.9)
_RULES: Final = {
    "0.19": _BEFORE_0_21,
    "0.20": _BEFORE_0_21,
    **dict.fromkeys(("0.21", "0.22", "0.23", "0.24", "0.25"), _RULES_0_26),
    "0.26": _RULES_0_26,
    "0.32": _RULES_0_32,
}


def known_versions() -> tuple[str, ...]:
    """Releases that `rules_of` takes, as ``major.minor``, oldest first."""
    return tuple(_RULES)


def rules_of(version: str) -> Rules:
    """The rules of a release.

    Releases before 0.26 are scheduled by the rules of 0.26 and reported as unchecked.

    Args:
        version: ``major.minor``.

    Raises:
        ValueError: the version is not known; the message lists those that are.
    """
    if version not in _RULES:
        raise ValueError(f"vllm_version: {version!r} is not known; known are {', '.join(_RULES)}")
    return _RULES[version]
