"""Which features of vLLM's scheduler a schedule exercises, alone and in pairs.

A setting counts where it is on; a behaviour only where vLLM showed it in the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Final

from validation.decisions import Decisions
from validation.schedules import Schedule

MARKS: Final = (
    "eviction",
    "content held twice",
    "adapter over max_loras",
    "abort before it was seen",
    "abort while waiting",
    "abort while running",
    "abort while preempted",
    "draft accepted",
    "draft rejected",
)
"""Behaviour that `validation.oracle` watches in vLLM, since the steps do not show it."""

_SETTINGS: Final[dict[str, Callable[[Schedule], bool]]] = {
    "chunked prefill": lambda s: s.config.enable_chunked_prefill,
    "no chunked prefill": lambda s: not s.config.enable_chunked_prefill,
    "synchronous": lambda s: not s.config.async_scheduling,
    "asynchronous": lambda s: s.config.async_scheduling,
    "first come first served": lambda s: s.config.policy == "fcfs",
    "priority": lambda s: s.config.policy == "priority",
    "prefix caching": lambda s: s.config.enable_prefix_caching,
    "no prefix caching": lambda s: not s.config.enable_prefix_caching,
    "block size 1": lambda s: s.config.block_size == 1,
    "block size 2 to 16": lambda s: 2 <= s.config.block_size <= 16,
    "block size 32 and 64": lambda s: 32 <= s.config.block_size <= 64,
    "block size 128": lambda s: s.config.block_size == 128,
    "budget below a prompt": lambda s: s.config.max_num_batched_tokens < _longest_prompt(s),
    "budget above all prompts": lambda s: s.config.max_num_batched_tokens > _longest_prompt(s),
    "max_num_seqs 1": lambda s: s.config.max_num_seqs == 1,
    "max_num_seqs 2 to 64": lambda s: 2 <= s.config.max_num_seqs <= 64,
    "max_num_seqs 256 to 1024": lambda s: s.config.max_num_seqs >= 256,
    "max_num_active_seqs": lambda s: s.config.max_num_active_seqs is not None,
    "reserve_full_isl": lambda s: s.config.scheduler_reserve_full_isl,
    "no reserve_full_isl": lambda s: not s.config.scheduler_reserve_full_isl,
    "watermark": lambda s: s.config.watermark > 0,
    "long_prefill_token_threshold": lambda s: s.config.long_prefill_token_threshold > 0,
    "adaptive threshold": lambda s: (
        s.config.long_prefill_token_threshold_adaptive and s.config.long_prefill_token_threshold > 0
    ),
    "prompt of one token": lambda s: any(r.prompt_tokens == 1 for _, r in s.arrivals),
    "prompt of exact blocks": lambda s: any(
        r.prompt_tokens % s.config.block_size == 0 for _, r in s.arrivals if s.config.block_size > 1
    ),
}

_BEHAVIOUR: Final[dict[str, Callable[[Schedule, Decisions], bool]]] = {
    "sequence of max_model_len": lambda s, d: bool(_full_contexts(s) & _finished(d, "length")),
    "stop by length": lambda s, d: bool(_finished(d, "length")),
    "stop by EOS": lambda s, d: bool(_finished(d, "stop")),
    "ghost step after EOS": lambda s, d: s.config.async_scheduling and bool(_finished(d, "stop")),
    "prefix hit": lambda s, d: any(hit > 0 for step in d.steps for _, hit in step.admitted),
    "whole-prompt hit": lambda s, d: bool(_whole_prompt_hits(s, d)),
    "hit on a victim's return": lambda s, d: _victim_hits(d),
    "preemption": lambda s, d: any(step.preempted for step in d.steps),
    "several preempted in a step": lambda s, d: any(len(step.preempted) > 1 for step in d.steps),
    "refused by the front end": lambda s, d: bool(d.refused),
}

FEATURES: Final = (*_SETTINGS, *_BEHAVIOUR, *MARKS)

_NEED_CACHING: Final = (
    "prefix hit",
    "whole-prompt hit",
    "hit on a victim's return",
    "eviction",
    "content held twice",
)
_NEED_TWO_RUNNING: Final = (
    "preemption",
    "several preempted in a step",
    "hit on a victim's return",
    "abort while preempted",
    "adapter over max_loras",
)
_ALTERNATIVES: Final = (
    ("chunked prefill", "no chunked prefill"),
    ("synchronous", "asynchronous"),
    ("first come first served", "priority"),
    ("prefix caching", "no prefix caching"),
    ("block size 1", "block size 2 to 16", "block size 32 and 64", "block size 128"),
    ("budget below a prompt", "budget above all prompts"),
    ("max_num_seqs 1", "max_num_seqs 2 to 64", "max_num_seqs 256 to 1024"),
    ("reserve_full_isl", "no reserve_full_isl"),
    ("no chunked prefill", "budget below a prompt"),  # vLLM refuses it
    ("synchronous", "ghost step after EOS"),
    ("block size 1", "prompt of exact blocks"),  # every prompt is
    *(("no prefix caching", behaviour) for behaviour in _NEED_CACHING),
    *(("max_num_seqs 1", behaviour) for behaviour in _NEED_TWO_RUNNING),
)

IMPOSSIBLE: Final = frozenset(frozenset(pair) for group in _ALTERNATIVES for pair in combinations(group, 2))
"""Pairs that cannot occur together."""


def _longest_prompt(schedule: Schedule) -> int:
    return max(r.prompt_tokens for _, r in schedule.arrivals)


def _finished(decisions: Decisions, reason: str) -> set[int]:
    return {request_id for _, request_id, what in decisions.outputs if what == reason}


def _full_contexts(schedule: Schedule) -> set[int]:
    limit = schedule.config.max_model_len
    return {r.request_id for _, r in schedule.arrivals if r.prompt_tokens + r.max_tokens == limit}


def _whole_prompt_hits(schedule: Schedule, decisions: Decisions) -> bool:
    """A first admission that found every block that may be found."""
    config = schedule.config
    drop = 1 if config.num_speculative_tokens else 0
    prompts = {r.request_id: r.prompt_tokens for _, r in schedule.arrivals}
    seen: set[int] = set()
    for step in decisions.steps:
        for request_id, hit in step.admitted:
            most = ((prompts[request_id] - 1) // config.block_size - drop) * config.block_size
            if request_id not in seen and hit == most > 0:
                return True
            seen.add(request_id)
    return False


def _victim_hits(decisions: Decisions) -> bool:
    victims: set[int] = set()
    for step in decisions.steps:
        if any(request_id in victims and hit > 0 for request_id, hit in step.admitted):
            return True
        victims.update(step.preempted)
    return False


def features_of(schedule: Schedule, decisions: Decisions) -> list[str]:
    """The features that a run exercised, in the order of `FEATURES`."""
    found = {name for name, holds in _SETTINGS.items() if holds(schedule)}
    found |= {name for name, holds in _BEHAVIOUR.items() if holds(schedule, decisions)}
    found |= decisions.marks
    return [name for name in FEATURES if name in found]


class Coverage:
    """Counts schedules by feature and by pair of features."""

    def __init__(self) -> None:
        self.alone: Counter[str] = Counter()
        self.pairs: Counter[frozenset[str]] = Counter()

    def add(self, features: Iterable[str]) -> None:
        names = list(features)
        self.alone.update(names)
        self.pairs.update(frozenset(pair) for pair in combinations(names, 2))

    def rarest(self) -> list[tuple[int, str, str]]:
        """(schedules, feature, feature) of every possible pair, the rarest first."""
        possible = (pair for pair in combinations(FEATURES, 2) if frozenset(pair) not in IMPOSSIBLE)
        return sorted((self.pairs[frozenset(pair)], *pair) for pair in possible)

    def to_json(self) -> dict[str, int]:
        counts = {name: self.alone[name] for name in FEATURES}
        for a, b in combinations(FEATURES, 2):
            counts[f"{a}|{b}"] = self.pairs[frozenset((a, b))]
        return counts

    def add_json(self, counts: dict[str, int]) -> None:
        """Add what `to_json` gave."""
        for key, count in counts.items():
            a, _, b = key.partition("|")
            if b:
                self.pairs[frozenset((a, b))] += count
            else:
                self.alone[a] += count

    def table(self) -> str:
        """Schedules by pair of features; the diagonal counts the feature alone, ``-`` cannot be."""
        width = max(len(str(count)) for count in [*self.alone.values(), len(FEATURES)]) + 1
        lines = [" " * 35 + "".join(f"{column:>{width}}" for column in range(1, len(FEATURES) + 1))]
        for row, a in enumerate(FEATURES, 1):
            cells = [
                "-" if frozenset((a, b)) in IMPOSSIBLE else str(self._count(a, b)) for b in FEATURES[:row]
            ]
            lines.append(f"{row:>3} {a:<31}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join(lines)

    def _count(self, a: str, b: str) -> int:
        return self.alone[a] if a == b else self.pairs[frozenset((a, b))]
