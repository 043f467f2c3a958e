"""Compare the vLLM engines with vLLM's own scheduler, decision by decision.

    python -m validation.scheduler --schedules 5000 --seed 0

draws random configurations and workloads and runs each through vLLM's engine core (`validation.oracle`) and
through our engines. Of every step it compares the time, the scheduled requests in order with their tokens and
contexts, prefix hits at admission, the order of admission, preemptions in order, the running batch in order,
the number waiting and the free blocks; of every request the time of its first token and its end; what the
front end refuses; and vLLM's counters of the prefix cache. The event-skipping engine has no steps to show: its
deliveries, and its state at each of them, are compared with those of the plain engine; schedules with drafts or
limits of adapters are not skippable, and left to the plain engine.

A case that differs is made smaller while it still differs, and both sides are printed. Where vLLM is not
installed the command replays the logs that are committed in ``validation/oracle_logs``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulator.engines.vllm.rules import CHECKED_VERSIONS
from validation.coverage import Coverage, features_of
from validation.decisions import Decisions
from validation.engine_runs import is_skippable, run_plain, run_skipping
from validation.oracle_log import LOGS, LogEntry, read_log, write_log
from validation.schedules import Schedule, draw_schedule
from validation.shrink import shrink

Difference = tuple[str, int, Any, Any]
"""(what, at which place, ours, the other side's)."""

_COUNTS: Final = (
    "schedules",
    "skippable",
    "steps",
    "scheduled_tokens",
    "preemptions",
    "prefix_hits",
    "finished",
    "differing_steps",
    "differing_outputs",
)


@dataclass
class Tally:
    """What was compared, and what differed."""

    schedules: int = 0
    skippable: int = 0
    steps: int = 0
    scheduled_tokens: int = 0
    preemptions: int = 0
    prefix_hits: int = 0
    finished: int = 0
    differing_steps: int = 0
    differing_outputs: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    first_differing: LogEntry | None = None

    @property
    def agree(self) -> bool:
        return self.differing_steps == 0 and self.differing_outputs == 0

    def add(self, entry: LogEntry, differences: list[Difference]) -> None:
        """Count one schedule and its differences; keeps the first that has some."""
        self.schedules += 1
        self.skippable += is_skippable(entry.schedule.config)
        self.steps += len(entry.decisions.steps)
        self.finished += sum(reason in ("stop", "length") for _, _, reason in entry.decisions.outputs)
        for step in entry.decisions.steps:
            self.scheduled_tokens += sum(n for _, n, _ in step.scheduled)
            self.preemptions += len(step.preempted)
            self.prefix_hits += sum(hit > 0 for _, hit in step.admitted)
        self.coverage.add(features_of(entry.schedule, entry.decisions))
        steps = sum(what == "step" for what, *_ in differences)
        self.differing_steps += steps
        self.differing_outputs += len(differences) - steps
        if differences and self.first_differing is None:
            self.first_differing = entry

    def report(self) -> str:
        lines = [f"{name.replace('_', ' '):<19}{getattr(self, name)}" for name in _COUNTS]
        count, a, b = self.coverage.rarest()[0]
        return "\n".join([*lines, f"rarest pair        {count} ({a}; {b})"])

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in _COUNTS}, "coverage": self.coverage.to_json()}

    def add_json(self, data: dict[str, Any]) -> None:
        """Add what `to_json` gave."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + data[name])
        self.coverage.add_json(data["coverage"])


def differences(schedule: Schedule, theirs: Decisions, engine: str = "plain") -> list[Difference]:
    """Where our engines decide otherwise than vLLM did, or otherwise than one another.

    Args:
        schedule: the case.
        theirs: what vLLM did with it.
        engine: plain, skipping, or both.
    """
    ours, course = run_plain(schedule)
    found: list[Difference] = []
    if engine != "skipping":
        found += _differences("step", ours.steps, theirs.steps)
    if engine != "plain" and is_skippable(schedule.config):
        skipping, skipping_course = run_skipping(schedule)
        found += _differences("delivery", skipping_course.deliveries, course.deliveries)
        found += _differences("look", skipping_course.looks, course.looks)
        found += _differences("counters", [skipping_course.counters], [course.counters])
        found += _differences("gaps", [skipping_course.gaps], [course.gaps])
        ours = skipping if engine == "skipping" else ours
    found += _differences("output", ours.outputs, theirs.outputs)
    found += _differences("refusal", ours.refused, theirs.refused)
    found += _differences("prefix cache counters", [ours.prefix_cache], [theirs.prefix_cache])
    return found


def _differences(what: str, ours: list[Any], theirs: list[Any]) -> Iterator[Difference]:
    for index in range(max(len(ours), len(theirs))):
        a = ours[index] if index < len(ours) else None
        b = theirs[index] if index < len(theirs) else None
        if a != b:
            yield what, index, a, b


def compare(entries: Iterator[LogEntry], engine: str = "plain") -> Tally:
    """Run schedules through our engines and hold them against what vLLM did."""
    tally = Tally()
    for entry in entries:
        tally.add(entry, differences(entry.schedule, entry.decisions, engine))
    return tally


def run_vllm(schedule: Schedule) -> Decisions:
    """The schedule through vLLM itself."""
    from validation.oracle import OracleRun  # noqa: PLC0415  (needs vLLM)

    return OracleRun(schedule).run().decisions()


def drawn_entries(first_seed: int, count: int, max_requests: int, version: str) -> Iterator[LogEntry]:
    """Random schedules and what the installed vLLM does with them."""
    for seed in range(first_seed, first_seed + count):
        schedule = draw_schedule(seed, max_requests, version)
        try:
            decisions = run_vllm(schedule)
        except AssertionError as failure:
            print(f"seed {seed}: vLLM itself fails, left out: {failure!r}\n  {schedule.config}")
            continue
        yield LogEntry(f"seed {seed}", schedule, decisions)


def logged_entries(folder: Path = LOGS, version: str | None = None) -> Iterator[LogEntry]:
    """The committed logs, of one version or of all."""
    for path in sorted(folder.glob("*.json.xz")):
        for entry in read_log(path):
            if version in (None, entry.schedule.config.vllm_version):
                yield entry


def explain(entry: LogEntry, engine: str, vllm: Callable[[Schedule], Decisions] | None) -> str:
    """Both sides of the first difference; of a smaller schedule, if vLLM is here to run it."""
    schedule, theirs = entry.schedule, entry.decisions
    if vllm is not None:
        schedule = shrink(schedule, lambda case: bool(differences(case, vllm(case), engine)))
        theirs = vllm(schedule)
    what, at, a, b = differences(schedule, theirs, engine)[0]
    arrivals = "\n".join(f"    {t} {request}" for t, request in schedule.arrivals)
    return (
        f"{entry.name}, {what} {at}\n  ours  {a}\n  other {b}\n  {schedule.config}\n  {schedule.step_time}\n"
        f"  arrivals\n{arrivals}\n  aborts {schedule.aborts} acceptance {schedule.acceptance_rates}"
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m validation.scheduler", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--schedules", type=int, default=500, help="random schedules to compare")
    parser.add_argument("--seed", type=int, default=0, help="first seed; the others follow it")
    parser.add_argument("--max-requests", type=int, default=60, help="most requests in a schedule")
    parser.add_argument("--engine", choices=("plain", "skipping", "both"), default="both")
    parser.add_argument(
        "--vllm-version", choices=CHECKED_VERSIONS, help="default: that of the installed vLLM"
    )
    parser.add_argument("--vllm-path", type=Path, help="folder that holds the vllm package, if not installed")
    parser.add_argument("--logs", action="store_true", help="replay the committed logs, though vLLM is here")
    parser.add_argument("--write-log", type=Path, help="record vLLM's decisions in this file instead")
    parser.add_argument("--save", type=Path, help="write the tally to this file, for --merge")
    parser.add_argument("--merge", type=Path, nargs="+", help="print the sum of saved tallies; run nothing")
    return parser.parse_args(arguments)


def _installed_version(args: argparse.Namespace) -> str | None:
    """The vLLM to compare with, as major.minor; None where the logs must do."""
    if args.logs:
        print(f"replaying the logs in {LOGS.name}")
        return None
    if args.vllm_path is not None:
        sys.path.insert(0, str(args.vllm_path))
    from validation.vllm_install import vllm_version  # noqa: PLC0415

    version = vllm_version()
    if version is None:
        print(f"vLLM is not installed: replaying the logs in {LOGS.name}, recorded from it")
        return None
    minor = ".".join(version.split(".")[:2])
    if minor not in CHECKED_VERSIONS or args.vllm_version not in (None, minor):
        print(f"vLLM {version} is installed, not {args.vllm_version or CHECKED_VERSIONS}: replaying the logs")
        return None
    print(f"comparing with vLLM {version}")
    return minor


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if nothing differs, else 1."""
    args = _arguments(arguments)
    started = time.perf_counter()
    tally = Tally()
    if args.merge:
        for path in args.merge:
            tally.add_json(json.loads(path.read_text()))
    else:
        version = _installed_version(args)
        if version is None:
            entries = logged_entries(version=args.vllm_version)
        else:
            entries = drawn_entries(args.seed, args.schedules, args.max_requests, version)
        if args.write_log is not None:
            write_log(args.write_log, entries)
            return 0
        tally = compare(entries, args.engine)
        if tally.first_differing is not None:
            print(explain(tally.first_differing, args.engine, run_vllm if version is not None else None))
        if args.save is not None:
            args.save.write_text(json.dumps(tally.to_json()))
    print(tally.coverage.table())
    print(tally.report())
    print(f"engines            {args.engine}\nseconds            {time.perf_counter() - started:.0f}")
    return 0 if tally.agree else 1


if __name__ == "__main__":
    sys.exit(main())
