"""A plan's stages as what is sent to an engine, for an engine of given size.

Each stage becomes groups of tasks. A group is a task to measure with, before it, the one that fills the prefix
cache for it. Prompts are described, not written out: shared beginnings by content ids (equal id, equal tokens),
the rest is unique to a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from calibration.plan import (
    ChunksStage,
    ColumnStage,
    HeterogeneousStage,
    LoadStage,
    MixedStage,
    MultiStage,
    Spread,
    Stage,
    WarmupStage,
)
from simulator.draws import Draws
from simulator.engines.protocol import ContentSegments
from simulator.units import PS_PER_S, to_ps
from simulator.workload.source import WorkloadSource

Purpose = Literal["warmup", "fill", "calibration", "validation"]

_MOST_REQUESTS: Final = 100_000
_PS_PER_US: Final = PS_PER_S // 1_000_000


@dataclass(frozen=True)
class Limits:
    """What bounds an engine's batches.

    Attributes:
        usable_blocks: KV blocks without the null block.
    """

    usable_blocks: int
    block_size: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_size)


@dataclass(frozen=True)
class Send:
    """One request: prompt and answer lengths in tokens, shared content of the prompt."""

    prompt_tokens: int
    output_tokens: int
    segments: ContentSegments = ()
    priority: int = 0


@dataclass(frozen=True)
class Burst:
    """Requests that all wait when the next step is scheduled; done when all have ended."""

    sends: tuple[Send, ...]


@dataclass(frozen=True)
class Beside:
    """``chunks`` sent one after another while ``decodes`` decode; then those are aborted."""

    decodes: tuple[Send, ...]
    chunks: tuple[Send, ...]


@dataclass(frozen=True)
class OpenLoad:
    """Requests at their times (µs from the start), in time order."""

    arrivals: tuple[tuple[int, Send], ...]


@dataclass(frozen=True)
class Task:
    """What is recorded as one stage.

    Attributes:
        name: unique among the tasks of an engine.
        kind: of the plan's stage.
        plan: the plan's stage, and what this task is of it.
    """

    name: str
    kind: str
    purpose: Purpose
    actions: tuple[Burst | Beside | OpenLoad, ...]
    timeout_s: float
    plan: dict[str, Any] = field(default_factory=dict)
    regime: str | None = None
    repeat_of: str | None = None


Group = tuple[Task, ...]


def expand(stage: Stage, limits: Limits, folder: Path) -> list[Group]:
    """Groups of tasks of a stage; what the engine cannot hold is left out.

    Args:
        stage: of the plan.
        limits: of the engine.
        folder: that files of the stage are relative to.

    Raises:
        ScenarioError: a load's trace or lengths cannot be read.
    """
    match stage:
        case WarmupStage():
            groups = [_warmup(stage, limits)]
        case ColumnStage():
            groups = list(_column(stage, limits))
        case ChunksStage():
            groups = list(_chunks(stage, limits))
        case MultiStage():
            groups = list(_multi(stage, limits))
        case MixedStage():
            groups = list(_mixed(stage, limits))
        case HeterogeneousStage():
            groups = list(_heterogeneous(stage, limits))
        case LoadStage():
            groups = [(task,) for task in _load(stage, limits, folder)]
    whole = stage.model_dump(mode="json", exclude_unset=True)
    return [tuple(replace(task, plan=whole | {"task": task.plan}) for task in group) for group in groups]


def _base(number: int, tokens: int) -> ContentSegments:
    """The beginning of base prompt ``number``: sweeps cut their prompts from these, to find them cached."""
    return ((number + 1, tokens),) if tokens else ()


def _fill(stage: Stage, suffix: str, contexts: Sequence[int]) -> Task:
    """Whole base prompts of these lengths, into the prefix cache."""
    sends = tuple(Send(tokens, 1, _base(number, tokens)) for number, tokens in enumerate(contexts))
    return Task(
        f"{stage.name}{suffix}_fill",
        stage.kind,
        "fill",
        (Burst(sends),),
        stage.timeout,
        {"contexts": list(contexts)},
    )


def _warmup(stage: WarmupStage, limits: Limits) -> Group:
    budget = limits.max_num_batched_tokens
    longest = min(limits.max_model_len, limits.usable_blocks * limits.block_size) - 4
    alone = [min(tokens, longest) for tokens in (1, 17, max(budget // 2, 1), budget + 16)]
    batch = min(16, limits.max_num_seqs, limits.usable_blocks // limits.blocks(96))
    together = tuple(Send(64, 8 + number) for number in range(max(batch, 1)))
    bursts = [Burst((Send(tokens, 3),)) for tokens in alone] + [Burst(together)]
    return (Task(stage.name, stage.kind, "warmup", tuple(bursts), stage.timeout),)


def _fitting(batches: Sequence[int], context: int, steps: int, limits: Limits) -> list[int]:
    """The batch sizes (falling) whose walk down fits into the engine."""
    fitting = [batch for batch in batches if batch <= limits.max_num_seqs]
    while fitting:
        peak = max(
            batch * limits.blocks(context + steps * (place + 1) + 1) for place, batch in enumerate(fitting)
        )
        if peak <= limits.usable_blocks and context + steps * len(fitting) + 1 <= limits.max_model_len:
            break
        fitting.pop(0)
    return fitting


def _column(stage: ColumnStage, limits: Limits) -> Iterator[Group]:
    for context in stage.contexts:
        batches = _fitting(stage.batches, context, stage.steps, limits)
        if not batches:
            continue
        largest = batches[0]
        # Request i is in every batch that is larger than i, and its first token comes with its prompt.
        sends = tuple(
            Send(
                context,
                1 + stage.steps * sum(batch > number for batch in batches),
                _base(number, context),
            )
            for number in range(largest)
        )
        suffix = f"_c{context}"
        yield (
            _fill(stage, suffix, [context] * largest),
            Task(
                stage.name + suffix,
                stage.kind,
                stage.purpose,
                (Burst(sends),),
                stage.timeout,
                {"context": context, "batches": batches},
            ),
        )


def _chunks(stage: ChunksStage, limits: Limits) -> Iterator[Group]:
    room = min(limits.max_model_len, limits.usable_blocks * limits.block_size)
    for context in stage.contexts:
        sizes = [
            size
            for size in stage.sizes
            if size <= limits.max_num_batched_tokens and context + size + 1 <= room
        ]
        if not sizes:
            continue
        bursts = tuple(
            Burst((Send(context + size, 1, _base(0, context)),))
            for _ in range(stage.repeats)
            for size in sizes
        )
        suffix = f"_c{context}"
        task = Task(
            stage.name + suffix,
            stage.kind,
            stage.purpose,
            bursts,
            stage.timeout,
            {"context": context, "sizes": sizes},
        )
        # One token more than the context: a prompt is never taken whole from the cache.
        yield (_fill(stage, suffix, [context + 1]), task) if context else (task,)


def _multi(stage: MultiStage, limits: Limits) -> Iterator[Group]:
    fitting = [
        (count, tokens)
        for count, tokens in stage.prompts
        if count <= limits.max_num_seqs
        and count * tokens <= limits.max_num_batched_tokens
        and tokens + 1 <= limits.max_model_len
        and count * limits.blocks(tokens + 1) <= limits.usable_blocks
    ]
    bursts = tuple(
        Burst((Send(tokens, 1),) * count) for _ in range(stage.repeats) for count, tokens in fitting
    )
    if bursts:
        plan = {"prompts": [list(pair) for pair in fitting]}
        yield (Task(stage.name, stage.kind, stage.purpose, bursts, stage.timeout, plan),)


def _mixed(stage: MixedStage, limits: Limits) -> Iterator[Group]:
    for decodes in stage.decodes:
        largest = limits.max_num_batched_tokens - decodes
        chunks = tuple(
            Send(context + min(size, largest), 1, _base(0, context))
            for context in stage.chunk_contexts
            for _ in range(stage.repeats)
            for size in stage.sizes
            if largest > 0 and context + min(size, largest) < limits.max_model_len
        )
        if not chunks or decodes >= limits.max_num_seqs:
            continue
        beside = max(limits.blocks(send.prompt_tokens + 1) for send in chunks)
        blocks_each = (limits.usable_blocks - beside) // decodes
        most = min(blocks_each * limits.block_size, limits.max_model_len) - stage.context
        if most < 4 * len(chunks) + 16:
            continue
        suffix = f"_n{decodes}"
        sends = tuple(Send(stage.context, most, _base(number, stage.context)) for number in range(decodes))
        contexts = [stage.context] * decodes
        contexts[0] = max(contexts[0], *(context + 1 for context in stage.chunk_contexts))
        yield (
            _fill(stage, suffix, contexts),
            Task(
                stage.name + suffix,
                stage.kind,
                stage.purpose,
                (Beside(sends, chunks),),
                stage.timeout,
                {"decodes": decodes},
            ),
        )


def spread_contexts(spread: Spread, batch: int, mean: int, longest: int) -> list[int]:
    """Contexts of a batch with that mean (within rounding, and no longer than ``longest``)."""
    match spread:
        case "equal":
            return [mean] * batch
        case "even":
            return [min(max(round(2 * mean * (place + 0.5) / batch), 16), longest) for place in range(batch)]
        case "halves":
            return [min(mean * 7 // 4, longest) if place % 2 == 0 else mean // 4 for place in range(batch)]
        case "one_long":
            if batch == 1:
                return [mean]
            long = min(8 * mean, (batch - 1) * mean, longest)
            return [long] + [max((batch * mean - long) // (batch - 1), 16)] * (batch - 1)


def _heterogeneous(stage: HeterogeneousStage, limits: Limits) -> Iterator[Group]:
    longest = limits.max_model_len - stage.steps - 1
    for batch in stage.batches:
        if batch > limits.max_num_seqs:
            continue
        for spread in stage.spreads:
            contexts = spread_contexts(spread, batch, stage.mean_context, longest)
            if sum(limits.blocks(tokens + stage.steps + 1) for tokens in contexts) > limits.usable_blocks:
                continue
            sends = tuple(
                Send(tokens, 1 + stage.steps, _base(number, tokens)) for number, tokens in enumerate(contexts)
            )
            suffix = f"_{spread}_n{batch}"
            yield (
                _fill(stage, suffix, contexts),
                Task(
                    stage.name + suffix,
                    stage.kind,
                    stage.purpose,
                    (Burst(sends),),
                    stage.timeout,
                    {"batch": batch, "spread": spread, "contexts": contexts},
                ),
            )


def _content(task: str, content: int) -> int:
    """Content ids of one task are its own: a repeated load must not find the first one's prefixes."""
    digest = hashlib.blake2b(f"{task}/{content}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _segments(task: str, segments: ContentSegments, prompt_tokens: int) -> ContentSegments:
    """Shared content of the prompt alone, under ids of the task's own."""
    kept = []
    start = 0
    for content, end in segments:
        if start < prompt_tokens:
            kept.append((_content(task, content), min(end, prompt_tokens)))
        start = end
    return tuple(kept)


def _load(stage: LoadStage, limits: Limits, folder: Path) -> Iterator[Task]:
    source = WorkloadSource(stage.workload, Draws(stage.seed), to_ps(stage.duration), folder)
    specs = list(islice(source.arrivals(), _MOST_REQUESTS))
    longest = min(limits.max_model_len, limits.usable_blocks * limits.block_size)
    for repeat in range(stage.repeats):
        name = stage.name if repeat == 0 else f"{stage.name}_r{repeat + 1}"
        arrivals = []
        for spec in specs:
            cap = spec.output_tokens if spec.max_tokens is None else spec.max_tokens
            output = min(spec.output_tokens, cap, longest - 1)
            prompt = min(spec.prompt_tokens, longest - output)
            segments = _segments(name, spec.segments, prompt)
            arrivals.append((spec.arrival_ps // _PS_PER_US, Send(prompt, output, segments, spec.priority)))
        yield Task(
            name,
            stage.kind,
            "validation",
            (OpenLoad(tuple(arrivals)),),
            stage.timeout,
            regime=stage.regime,
            repeat_of=stage.name if repeat else None,
        )
