"""Files of schedules with what vLLM did, for machines without vLLM.

One JSON document, compressed. Steps are stored as differences where that is short: the time since the last
step, the running batch only where it is not the scheduled requests, contexts only where they are not what the
steps before lead to.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.engines.vllm.plain import StepRecord
from validation.decisions import Decisions
from validation.schedules import Schedule

LOGS: Final = Path(__file__).parent / "oracle_logs"


@dataclass(frozen=True)
class LogEntry:
    """A schedule and vLLM's decisions on it."""

    name: str
    schedule: Schedule
    decisions: Decisions


def write_log(path: Path, entries: Iterable[LogEntry]) -> None:
    """Write entries to a file; the same entries give the same bytes."""
    data = [
        {
            "name": entry.name,
            "schedule": entry.schedule.to_json(),
            "steps": list(pack_steps(entry.decisions.steps)),
            "outputs": entry.decisions.outputs,
            "refused": entry.decisions.refused,
            "prefix_cache": entry.decisions.prefix_cache,
            "marks": sorted(entry.decisions.marks),
        }
        for entry in entries
    ]
    path.write_bytes(lzma.compress(json.dumps(data, separators=(",", ":")).encode(), preset=9))


def read_log(path: Path) -> Iterator[LogEntry]:
    """The entries of a file."""
    for entry in json.loads(lzma.decompress(path.read_bytes())):
        decisions = Decisions(
            steps=list(unpack_steps(entry["steps"])),
            outputs=[(now, request_id, what) for now, request_id, what in entry["outputs"]],
            refused=[(now, request_id, what) for now, request_id, what in entry["refused"]],
            prefix_cache=(entry["prefix_cache"][0], entry["prefix_cache"][1]),
            marks=set(entry["marks"]),
        )
        yield LogEntry(entry["name"], Schedule.from_json(entry["schedule"]), decisions)


def pack_steps(steps: list[StepRecord]) -> Iterator[list[Any]]:
    """Steps as short rows of JSON."""
    before: StepRecord | None = None
    for step in steps:
        ids = [request_id for request_id, _, _ in step.scheduled]
        expected = _next_decode(before)
        scheduled: Any = 0 if step.scheduled == expected else [list(entry) for entry in step.scheduled]
        yield [
            step.time_ps - (before.time_ps if before is not None else 0),
            scheduled,
            [list(entry) for entry in step.admitted] or 0,
            step.preempted or 0,
            0 if step.running == ids else step.running,
            step.num_waiting,
            step.num_free_blocks,
        ]
        before = step


def unpack_steps(rows: list[list[Any]]) -> Iterator[StepRecord]:
    """The steps that `pack_steps` was given."""
    before: StepRecord | None = None
    for elapsed, packed, admitted, preempted, running, num_waiting, num_free_blocks in rows:
        scheduled = _next_decode(before) if packed == 0 else [(i, n, c) for i, n, c in packed]
        before = StepRecord(
            time_ps=elapsed + (before.time_ps if before is not None else 0),
            scheduled=scheduled,
            admitted=[(request_id, hit) for request_id, hit in admitted or []],
            preempted=preempted or [],
            running=[request_id for request_id, _, _ in scheduled] if running == 0 else running,
            num_waiting=num_waiting,
            num_free_blocks=num_free_blocks,
        )
        yield before


def _next_decode(before: StepRecord | None) -> list[tuple[int, int, int]]:
    """What is scheduled if everyone goes on with one token."""
    if before is None:
        return []
    return [(request_id, 1, context + tokens) for request_id, tokens, context in before.scheduled]
