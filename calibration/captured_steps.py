"""The steps of captures as rows for a fit: regime, sizes, and the times of step and host.

A request decodes in a step if it computes one token behind a full context, as in
`simulator.engines.protocol.StepTime`; a step is pure decode, pure prefill or mixed.

- Synchronous engines: the step is from the end of ``schedule()`` to its output; the host's part is scheduling,
  processing of the output, and the gap to the next ``schedule()`` if the engine had work left.
- Asynchronous engines: two batches are in flight and what can be seen is the time from output to output.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.capture_format import Capture

Floats = NDArray[np.float64]
StepRegime = Literal["pure_decode", "pure_prefill", "mixed"]

SPREAD_OF_MIXED_LENGTHS: Final = 0.1
"""Standard deviation of a batch's contexts over their mean, from which on it counts as heterogeneous: contexts
of a decode sweep drift apart by less."""


@dataclass(frozen=True)
class CapturedStep:
    """One step that scheduled something.

    Attributes:
        capture: position of its capture among those read.
        engine, stage: positions in that capture's manifest.
        number: among the engine's steps.
        decodes: requests that decode.
        decode_context: their contexts before the step, summed, tokens.
        context_spread: standard deviation over mean of those contexts.
        prefills: (tokens, context before) of all others.
        step_us: the step: ``launch`` to output (sync), or output to output (async); None where an async engine
            had only this batch in flight.
        host_us: the host's part; None if the engine had nothing left to do, or is async.
    """

    capture: int
    engine: int
    stage: int
    number: int
    decodes: int
    decode_context: int
    context_spread: float
    prefills: tuple[tuple[int, int], ...]
    step_us: float | None
    host_us: float | None

    @property
    def regime(self) -> StepRegime:
        if not self.prefills:
            return "pure_decode"
        return "mixed" if self.decodes else "pure_prefill"

    @property
    def prefill_tokens(self) -> int:
        return sum(tokens for tokens, _ in self.prefills)

    @property
    def prefill_context(self) -> int:
        """Largest context behind which a chunk was computed."""
        return max((context for _, context in self.prefills), default=0)

    @property
    def scheduled(self) -> int:
        return self.decodes + len(self.prefills)

    @property
    def mean_context(self) -> float:
        return self.decode_context / self.decodes if self.decodes else 0.0

    @property
    def is_heterogeneous(self) -> bool:
        return self.context_spread >= SPREAD_OF_MIXED_LENGTHS


def steps_of(captures: Iterable[Capture]) -> list[CapturedStep]:
    """All steps of some captures, in order of capture and engine."""
    rows: list[CapturedStep] = []
    for position, capture in enumerate(captures):
        rows += _steps_of_one(position, capture)
    return rows


def _steps_of_one(position: int, capture: Capture) -> list[CapturedStep]:
    prompts = np.asarray(capture.requests["prompt_tokens"].to_numpy(), dtype=np.int64)
    table = {name: capture.steps[name].to_pylist() for name in capture.steps.column_names}
    order = sorted(range(capture.steps.num_rows), key=lambda i: (table["engine"][i], table["step"][i]))
    rows = []
    for here, i in enumerate(order):
        before = order[here - 1] if here else None
        after = order[here + 1] if here + 1 < len(order) else None
        requests = np.array(table["requests"][i], dtype=np.int64)
        tokens = np.array(table["tokens"][i], dtype=np.int64)
        context = np.array(table["context"][i], dtype=np.int64)
        decoding = (tokens == 1) & (context >= prompts[requests] - 1)
        contexts = context[decoding]
        engine = table["engine"][i]
        is_async = capture.manifest.engines[engine].async_scheduling
        rows.append(
            CapturedStep(
                capture=position,
                engine=engine,
                stage=table["stage"][i],
                number=table["step"][i],
                decodes=len(contexts),
                decode_context=int(contexts.sum()),
                context_spread=float(contexts.std() / max(contexts.mean(), 1.0)) if len(contexts) else 0.0,
                prefills=tuple(zip(tokens[~decoding].tolist(), context[~decoding].tolist(), strict=True)),
                step_us=_step_us(table, i, before, is_async),
                host_us=None if is_async else _host_us(table, i, after),
            )
        )
    return rows


def _follows(table: dict[str, list[int]], i: int, j: int) -> bool:
    same_engine: bool = table["engine"][i] == table["engine"][j]
    return same_engine and table["step"][j] == table["step"][i] + 1


def _step_us(table: dict[str, list[int]], i: int, before: int | None, is_async: bool) -> float | None:
    if not is_async:
        return float(table["output_us"][i] - table["launch_us"][i])
    if before is None or not _follows(table, before, i) or table["depth"][i] != 1:
        return None
    return float(table["output_us"][i] - table["output_us"][before])


def _host_us(table: dict[str, list[int]], i: int, after: int | None) -> float | None:
    """Scheduling, processing of the output, and the gap to the next schedule of an engine with work left."""
    if after is None or not _follows(table, i, after):
        return None
    requests: list[list[int]] = table["requests"]  # type: ignore[assignment]
    if set(requests[i]).isdisjoint(requests[after]):
        return None
    inside = table["launch_us"][i] - table["schedule_us"][i] + table["update_us"][i] - table["output_us"][i]
    return float(inside + table["schedule_us"][after] - table["update_us"][i])
