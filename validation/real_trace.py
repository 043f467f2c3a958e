"""Steps that a real vLLM engine took, and their replay in our engine.

A trace has the engine's settings, its requests with the step before which each arrived, and every step's
decisions. The replay gives our engine the same arrivals, counted in steps, and compares every step.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from simulator.engines.protocol import DeliveryKind, EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.units import PS_PER_MS
from validation.oracle_log import pack_steps, unpack_steps
from validation.schedules import LinearStepTime, request_of

TRACES: Final = Path(__file__).parent / "real_traces"

_STEP: Final = LinearStepTime(PS_PER_MS, 0, 0, 0)


@dataclass(frozen=True)
class RealTrace:
    """What one run of a real engine was given and what it did.

    Attributes:
        source: engine, model and machine, in words.
        config: the engine's settings.
        arrivals: (steps scheduled before it arrived, request), in order of arrival.
        steps: steps that scheduled something; their times are 0.
        finished_before: of each step, the requests that finished since the one before.
    """

    source: str
    config: EngineConfig
    arrivals: list[tuple[int, EngineRequest]]
    steps: list[StepRecord]
    finished_before: list[list[int]]

    @property
    def num_preemptions(self) -> int:
        return sum(len(step.preempted) for step in self.steps)

    @property
    def num_prefix_hits(self) -> int:
        return sum(hit > 0 for step in self.steps for _, hit in step.admitted)

    def write(self, path: Path) -> None:
        data = {
            "source": self.source,
            "config": asdict(self.config),
            "arrivals": [[step, list(asdict(request).values())] for step, request in self.arrivals],
            "steps": list(pack_steps(self.steps)),
            "finished_before": self.finished_before,
        }
        path.write_bytes(lzma.compress(json.dumps(data, separators=(",", ":")).encode(), preset=9))

    @staticmethod
    def read(path: Path) -> RealTrace:
        data = json.loads(lzma.decompress(path.read_bytes()))
        arrivals = []
        for step, values in data["arrivals"]:
            arrivals.append((step, request_of(values)))
        return RealTrace(
            source=data["source"],
            config=EngineConfig(**data["config"]),
            arrivals=arrivals,
            steps=list(unpack_steps(data["steps"])),
            finished_before=data["finished_before"],
        )


def from_lines(
    source: str, lines: list[dict[str, Any]], requests: dict[int, EngineRequest], version: str
) -> RealTrace:
    """A trace from the lines of `validation.tracing_scheduler` and what the clients sent.

    Args:
        source: engine, model and machine, in words.
        lines: of one run, in order.
        requests: by request id.
        version: vLLM's, as ``major.minor``.
    """
    settings = next(line["settings"] for line in lines if "settings" in line)
    rows = [line for line in lines if "scheduled" in line]
    steps = [
        StepRecord(
            time_ps=0,
            scheduled=[(request_id, n, context) for request_id, n, context in row["scheduled"]],
            admitted=[(request_id, hit) for request_id, hit in row["admitted"]],
            preempted=row["preempted"],
            running=row["running"],
            num_waiting=row["waiting"],
            num_free_blocks=row["free_blocks"],
        )
        for row in rows
    ]
    return RealTrace(
        source=source,
        config=EngineConfig(**settings, vllm_version=version),
        arrivals=[(line["step"], requests[line["arrival"]]) for line in lines if "arrival" in line],
        steps=steps,
        finished_before=[sorted(row["finished_before"]) for row in rows],
    )


class _NoGaps:
    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        pass


def replay(trace: RealTrace) -> tuple[list[StepRecord], list[list[int]]]:
    """Our engine's steps and finishes for the arrivals of a trace, in its form."""
    steps: list[StepRecord] = []
    finished: list[int] = []
    finished_before: list[list[int]] = []

    def observe(step: StepRecord) -> None:
        if step.scheduled:
            steps.append(step._replace(time_ps=0))

    engine = PlainEngine(trace.config, _STEP, _NoGaps(), observe)
    waiting = list(trace.arrivals)
    now = 0
    while waiting or engine.next_time() is not None:
        next_ps = engine.next_time()
        idle = next_ps is None
        now = now + 1 if next_ps is None else next_ps
        # Seen by the next schedule, which is the first after these many; an idle engine is woken.
        while waiting and (waiting[0][0] <= len(steps) or idle):
            request = waiting.pop(0)[1]
            assert engine.submit(request, now) is None
            idle = False
        known = len(steps)
        deliveries = engine.advance(now)
        finished += [d.request_id for d in deliveries if d.kind == DeliveryKind.FINISHED]
        if len(steps) > known:
            finished_before.append(sorted(finished))
            finished = []
    return steps, finished_before


def differing_steps(trace: RealTrace) -> list[int]:
    """Steps at which our engine decides or finishes otherwise than the real one did."""
    steps, finished = replay(trace)
    ours = list(zip(steps, finished, strict=True))
    theirs = list(zip(trace.steps, trace.finished_before, strict=True))
    length = max(len(ours), len(theirs))
    return [k for k in range(length) if ours[k : k + 1] != theirs[k : k + 1]]
