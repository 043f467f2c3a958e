"""Steps that a real vLLM engine took, and their replay in our engine.

A trace has the engine's settings, its requests with the step before which each arrived, and every step's
decisions, all from a capture (`calibration.capture_format`). The replay gives our engine the same arrivals and
aborts, counted in steps, and compares every step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from calibration.capture_format import Capture, CaptureError
from simulator.engines.protocol import DeliveryKind, EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.units import PS_PER_MS
from validation.schedules import LinearStepTime

TRACES: Final = Path(__file__).parent / "real_traces"

_STEP: Final = LinearStepTime(PS_PER_MS, 0, 0, 0)


@dataclass(frozen=True)
class RealTrace:
    """What one engine process was given and what it did.

    Attributes:
        source: engine, model and machine, in words.
        config: the engine's settings.
        arrivals: (steps scheduled before it arrived, request), in order of arrival.
        aborts: (steps scheduled before it was aborted, request id), in order.
        steps: steps that scheduled something; their times are 0.
        finished_before: of each step, the requests that finished or were aborted since the one before.
        stages: of each step, the capture's stage.
        drained: of each step, whether an asynchronous engine had taken all outputs before it.
    """

    source: str
    config: EngineConfig
    arrivals: list[tuple[int, EngineRequest]]
    aborts: list[tuple[int, int]]
    steps: list[StepRecord]
    finished_before: list[list[int]]
    stages: list[int]
    drained: list[bool]

    @property
    def num_preemptions(self) -> int:
        return sum(len(step.preempted) for step in self.steps)

    @property
    def num_prefix_hits(self) -> int:
        return sum(hit > 0 for step in self.steps for _, hit in step.admitted)


def engine_config(capture: Capture, engine: int) -> EngineConfig:
    """The settings of a captured engine that its decisions depend on.

    Raises:
        CaptureError: settings that our engine refuses.
    """
    facts = capture.manifest.engines[engine]
    known = {field.name for field in fields(EngineConfig)}
    settings: dict[str, Any] = {key: value for key, value in facts.scheduler.items() if key in known}
    version = ".".join(capture.manifest.versions["vllm"].split(".")[:2])
    try:
        return EngineConfig(
            num_gpu_blocks=facts.num_gpu_blocks,
            block_size=facts.block_size,
            max_model_len=facts.max_model_len,
            max_num_batched_tokens=facts.max_num_batched_tokens,
            max_num_seqs=facts.max_num_seqs,
            async_scheduling=facts.async_scheduling,
            enable_prefix_caching=facts.enable_prefix_caching,
            vllm_version=version,
            **settings,
        )
    except ValueError as error:
        raise CaptureError(f"{capture.folder}: engine {facts.name}: {error}") from None


def traces_of(capture: Capture) -> Iterator[RealTrace]:
    """One trace for each engine process of a capture that has steps."""
    manifest = capture.manifest
    requests = capture.requests.to_pylist()
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in capture.steps.to_pylist():
        rows.setdefault(row["engine"], []).append(row)
    for engine, steps in rows.items():
        facts = manifest.engines[engine]
        arrivals = [
            (request["arrival_step"], number, engine_request(number, request))
            for number, request in enumerate(requests)
            if request["engine"] == engine and request["arrival_step"] is not None
        ]
        ended_early = {
            number
            for number, request in enumerate(requests)
            if request["engine"] == engine and request["status"] != "finished"
        }
        aborts = [
            (place, number)
            for place, step in enumerate(steps)
            for number in step["finished"]
            if number in ended_early
        ]
        # No step came after the end of those that the capture itself ended.
        aborts += [(len(steps), number) for number in sorted(ended_early - {number for _, number in aborts})]
        yield RealTrace(
            source=f"{manifest.plan}/{facts.name}: vLLM {manifest.versions['vllm']} on {manifest.gpu}, {facts.model}",
            config=engine_config(capture, engine),
            arrivals=[(step, request) for step, _, request in sorted(arrivals, key=lambda a: a[:2])],
            aborts=aborts,
            steps=[_step_record(step) for step in steps],
            finished_before=[step["finished"] for step in steps],
            stages=[step["stage"] for step in steps],
            drained=[facts.async_scheduling and step["depth"] == 0 for step in steps],
        )


def engine_request(number: int, request: dict[str, Any]) -> EngineRequest:
    """A row of a capture's requests, as an engine receives it."""
    segments = tuple(zip(request["segment_ids"], request["segment_ends"], strict=True))
    return EngineRequest(
        number,
        request["prompt_tokens"],
        request["max_tokens"],
        request["max_tokens"],
        priority=request["priority"] or 0,
        segments=segments,
    )


def _step_record(step: dict[str, Any]) -> StepRecord:
    context = dict(zip(step["requests"], step["context"], strict=True))
    return StepRecord(
        time_ps=0,
        scheduled=list(zip(step["requests"], step["tokens"], step["context"], strict=True)),
        admitted=[(number, context[number]) for number in step["admitted"]],
        preempted=step["preempted"],
        running=step["running"],
        num_waiting=step["waiting"],
        num_free_blocks=step["free_blocks"],
    )


class _NoGaps:
    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        pass


def replay(trace: RealTrace) -> tuple[list[StepRecord], list[list[int]]]:
    """Our engine's steps and finishes for the arrivals and aborts of a trace, in its form."""
    steps: list[StepRecord] = []
    finished: list[int] = []
    finished_before: list[list[int]] = []
    waiting, aborts = deque(trace.arrivals), deque(trace.aborts)
    present: set[int] = set()
    now = 0

    def submit(*, idle: bool) -> None:
        # Seen by the next schedule, which is the first after as many as there have been. An asynchronous engine
        # may have gone on taking outputs in between, with nothing to schedule.
        done = len(steps)
        held = not idle and done < len(trace.drained) and trace.drained[done]
        while waiting and (waiting[0][0] < done or (waiting[0][0] == done and not held)):
            request = waiting.popleft()[1]
            assert engine.submit(request, now) is None
            present.add(request.request_id)

    def observe(step: StepRecord) -> None:
        if step.scheduled:
            steps.append(step._replace(time_ps=0))
        submit(idle=False)  # the next schedule of an asynchronous engine may be at the same instant

    engine = PlainEngine(trace.config, _STEP, _NoGaps(), observe)
    while waiting or engine.next_time() is not None:
        next_ps = engine.next_time()
        now = now + 1 if next_ps is None else next_ps
        while aborts and aborts[0][0] <= len(steps):
            number = aborts.popleft()[1]
            if number in present:
                engine.abort(number, now)
                present.discard(number)
                finished.append(number)
        submit(idle=next_ps is None)
        if waiting and engine.next_time() is None:
            waiting[0] = (len(steps), waiting[0][1])  # ours has nothing to do: it took other steps
            submit(idle=True)
        known = len(steps)
        deliveries = engine.advance(now)
        ended = [d.request_id for d in deliveries if d.kind == DeliveryKind.FINISHED]
        present.difference_update(ended)
        finished += ended
        if len(steps) > known:
            # Outputs come before the first schedule of an instant.
            finished_before.append(sorted(finished))
            finished_before += [[]] * (len(steps) - known - 1)
            finished = []
    return steps, finished_before


def differing_steps(trace: RealTrace) -> list[int]:
    """Steps at which our engine decides or finishes otherwise than the real one did."""
    steps, finished = replay(trace)
    ours = list(zip(steps, finished, strict=True))
    theirs = list(zip(trace.steps, trace.finished_before, strict=True))
    length = max(len(ours), len(theirs))
    return [k for k in range(length) if ours[k : k + 1] != theirs[k : k + 1]]
