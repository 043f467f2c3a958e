"""Compare the plain vLLM engine with vLLM's own scheduler, decision by decision.

    python -m validation.scheduler --schedules 500 --seed 0

draws random configurations and workloads and runs each through vLLM's engine core (`validation.oracle`) and
through `simulator.engines.vllm.plain`. Of every step it compares the time, the scheduled requests in order
with their tokens and contexts, prefix hits at admission, preemptions in order, the running batch in order,
the number waiting and the free blocks; and of every request the time of its first token and its end. Where
vLLM is not installed it replays the logs that are committed in ``validation/oracle_logs``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulator.engines.protocol import DeliveryKind
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from validation.schedules import Schedule, draw_schedule

LOGS: Final = Path(__file__).parent / "oracle_logs"

Output = tuple[int, int, str]
"""(time in ps, request id, ``first`` or the reason of the end)."""


@dataclass
class Decisions:
    """What one scheduler did with one schedule."""

    steps: list[StepRecord] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    refused: list[Output] = field(default_factory=list)
    prefix_cache: tuple[int, int] = (0, 0)


class _NoItl:
    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        pass


def run_ours(schedule: Schedule) -> Decisions:
    """The schedule through the plain engine, which is driven as a replica drives it."""
    decisions = Decisions()
    engine = PlainEngine(
        schedule.config, schedule.step_time, _NoItl(), decisions.steps.append, schedule.make_acceptance()
    )
    events: list[tuple[int, Any]] = sorted(
        [*schedule.arrivals, *schedule.aborts], key=lambda event: (event[0], isinstance(event[1], int))
    )
    alive: set[int] = set()

    def advance_to(t: int) -> None:
        for delivery in engine.advance(t):
            if delivery.kind == DeliveryKind.FIRST_TOKEN:
                decisions.outputs.append((delivery.time_ps, delivery.request_id, "first"))
            elif delivery.detail is not None:
                decisions.outputs.append((delivery.time_ps, delivery.request_id, delivery.detail.reason))
                alive.discard(delivery.request_id)

    for now, what in events:
        while (t := engine.next_time()) is not None and t < now:
            advance_to(t)
        if not isinstance(what, int):
            refused = engine.submit(what, now)
            if refused is None:
                alive.add(what.request_id)
            else:
                decisions.refused.append((now, what.request_id, refused))
        elif what in alive:
            engine.abort(what, now)
            alive.discard(what)
    while (t := engine.next_time()) is not None:
        advance_to(t)
    assert not alive, f"requests without an end: {sorted(alive)}"
    counters = engine.peek(0).counters
    decisions.prefix_cache = (counters.prefix_cache_queries, counters.prefix_cache_hits)
    return decisions


def run_vllm(schedule: Schedule) -> Decisions:
    """The schedule through vLLM itself."""
    from validation.oracle import OracleRun  # noqa: PLC0415  (needs vLLM)

    run = OracleRun(schedule).run()
    return Decisions(run.steps, run.outputs, run.refused, (run.prefix_queries, run.prefix_hits))


@dataclass
class Tally:
    """What was compared, and what differed."""

    schedules: int = 0
    synchronous: int = 0
    prefix_caching: int = 0
    steps: int = 0
    scheduled_tokens: int = 0
    preemptions: int = 0
    prefix_hits: int = 0
    finished: int = 0
    differing_steps: int = 0
    differing_outputs: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        return self.differing_steps == 0 and self.differing_outputs == 0

    def add(self, name: str, schedule: Schedule, ours: Decisions, theirs: Decisions) -> None:
        """Count one schedule; keeps both sides of the first difference."""
        self.schedules += 1
        self.synchronous += not schedule.config.async_scheduling
        self.prefix_caching += schedule.config.enable_prefix_caching
        self.steps += len(theirs.steps)
        self.finished += sum(reason in ("stop", "length") for _, _, reason in theirs.outputs)
        for step in theirs.steps:
            self.scheduled_tokens += sum(n for _, n, _ in step.scheduled)
            self.preemptions += len(step.preempted)
            self.prefix_hits += sum(hit > 0 for _, hit in step.admitted)
        steps = list(_differences(ours.steps, theirs.steps))
        outputs = list(_differences(ours.outputs, theirs.outputs))
        outputs += _differences(ours.refused, theirs.refused)
        outputs += _differences([ours.prefix_cache], [theirs.prefix_cache])
        self.differing_steps += len(steps)
        self.differing_outputs += len(outputs)
        if steps or outputs:
            at, a, b = (steps or outputs)[0]
            self.examples.append(
                f"{name}, {'step' if steps else 'output'} {at}\n  config {schedule.config}\n"
                f"  ours {a}\n  vLLM {b}"
            )


def _differences(ours: list[Any], theirs: list[Any]) -> Iterator[tuple[int, Any, Any]]:
    for index in range(max(len(ours), len(theirs))):
        a = ours[index] if index < len(ours) else None
        b = theirs[index] if index < len(theirs) else None
        if a != b:
            yield index, a, b


def compare_with_vllm(first_seed: int, count: int, max_requests: int, version: str) -> Tally:
    """Run ``count`` random schedules through both."""
    tally = Tally()
    for seed in range(first_seed, first_seed + count):
        schedule = draw_schedule(seed, max_requests, version)
        tally.add(f"seed {seed}", schedule, run_ours(schedule), run_vllm(schedule))
    return tally


def compare_with_logs(folder: Path = LOGS) -> Tally:
    """Run the schedules of the committed logs and compare with what vLLM did."""
    tally = Tally()
    for path in sorted(folder.glob("*.json.gz")):
        for name, schedule, theirs in read_log(path):
            tally.add(f"{path.name} {name}", schedule, run_ours(schedule), theirs)
    return tally


def write_log(path: Path, first_seed: int, count: int, max_requests: int, version: str) -> None:
    """Record what vLLM does with random schedules."""
    entries = []
    for seed in range(first_seed, first_seed + count):
        schedule = draw_schedule(seed, max_requests, version)
        theirs = run_vllm(schedule)
        entries.append(
            {"seed": seed, "schedule": schedule.to_json(), "steps": theirs.steps, "outputs": theirs.outputs}
        )
    text = json.dumps({"vllm": version, "entries": entries}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_log(path: Path) -> Iterator[tuple[str, Schedule, Decisions]]:
    """(name, schedule, vLLM's decisions) of each entry of a log."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    for entry in data["entries"]:
        steps = [
            StepRecord(
                time_ps=now,
                scheduled=[(request_id, tokens, context) for request_id, tokens, context in scheduled],
                admitted=[(request_id, hit) for request_id, hit in admitted],
                preempted=preempted,
                running=running,
                num_waiting=num_waiting,
                num_free_blocks=num_free_blocks,
            )
            for now, scheduled, admitted, preempted, running, num_waiting, num_free_blocks in entry["steps"]
        ]
        outputs = [(now, request_id, what) for now, request_id, what in entry["outputs"]]
        schedule = Schedule.from_json(entry["schedule"])
        yield f"vLLM {data['vllm']} seed {entry['seed']}", schedule, Decisions(steps, outputs)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if no step differs, else 1."""
    parser = argparse.ArgumentParser(prog="python -m validation.scheduler", description=__doc__)
    parser.add_argument("--schedules", type=int, default=500, help="random schedules to compare")
    parser.add_argument("--seed", type=int, default=0, help="first seed; the others follow it")
    parser.add_argument("--max-requests", type=int, default=60, help="most requests in a schedule")
    parser.add_argument("--write-log", type=Path, help="record vLLM's decisions in this file instead")
    args = parser.parse_args(arguments)

    from validation.oracle import vllm_version  # noqa: PLC0415

    version = vllm_version()
    started = time.perf_counter()
    if args.write_log is not None:
        if version is None:
            parser.error("--write-log needs an installed vLLM")
        write_log(args.write_log, args.seed, args.schedules, args.max_requests, version)
        print(f"wrote {args.write_log}: {args.schedules} schedules, vLLM {version}")
        return 0
    if version is None:
        print(f"vLLM is not installed: replaying the logs in {LOGS.name}, recorded from it")
        tally = compare_with_logs()
    else:
        print(f"comparing with vLLM {version}")
        tally = compare_with_vllm(args.seed, args.schedules, args.max_requests, version.rsplit(".", 1)[0])
    for example in tally.examples[:5]:
        print(example)
    print(
        f"schedules          {tally.schedules} ({tally.synchronous} synchronous,"
        f" {tally.prefix_caching} with prefix caching)\n"
        f"steps              {tally.steps}\n"
        f"scheduled tokens   {tally.scheduled_tokens}\n"
        f"preemptions        {tally.preemptions}\n"
        f"prefix hits        {tally.prefix_hits}\n"
        f"requests finished  {tally.finished}\n"
        f"differing steps    {tally.differing_steps}\n"
        f"differing outputs  {tally.differing_outputs}\n"
        f"seconds            {time.perf_counter() - started:.0f}"
    )
    return 0 if tally.agree else 1


if __name__ == "__main__":
    sys.exit(main())
