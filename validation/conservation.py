"""Conservation: no request, pod, node, block, token or dollar unaccounted for, in random scenarios with every fault on.

    python -m validation.conservation --scenarios 1000 --seed 0

draws scenarios over the whole schema (`validation.random_scenarios`), runs each, and holds its books against each
other:

- every request ends in one outcome, every attempt is one request's and ended once, causes add up to errors;
- every pod that was created is there or gone, every process of a pod that is gone has ended;
- the gateway sends to processes of pods that are there, or have gone no longer than the news takes;
- every node that was granted is there, released or reclaimed; a slot holds a pod that knows of it;
- node time billed is node time lived, and dollars are the sum of all nodes' bills, price by price, commitments and
  rounding included, plus the API's (`validation.bills`);
- an engine whose requests are over holds no KV block, and never held more than there are; one that has ended holds
  no request;
- every token that an engine made is an attempt's, and time runs forwards through each of them.

It prints what was drawn, in how many scenarios, what came of it, and the scenarios whose books do not balance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from simulator.records.recorder import Recorder
from simulator.scenario.load import load_scenario
from validation.books import Books, WatchedSimulation
from validation.random_scenarios import draw_scenario, features, write_scenario
from validation.record_checks import wrong_records

_TELL = 20


class Checked(NamedTuple):
    """What the check of one scenario found.

    Attributes:
        seed: of the scenario.
        wrong: what does not balance; a traceback, if the run failed.
        drawn: what the scenario has.
        came: requests, pods and nodes; ends of requests and attempts; events.
    """

    seed: int
    wrong: list[str]
    drawn: set[str]
    came: Counter[str]


def check(seed: int) -> Checked:
    """Draw the scenario of a seed, run it, and hold its books against each other."""
    scenario = draw_scenario(seed)
    came: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_scenario(write_scenario(scenario, Path(folder)))
        recorder = Recorder([workload.name for workload in loaded.scenario.workload])
        simulation = WatchedSimulation(loaded, recorder)
        books = Books(simulation)
        summary = simulation.run()
    tables = recorder.tables()
    came.update(requests=len(tables.requests), pods=len(books.pods), nodes=len(books.nodes))
    came["processes"] = len(simulation.processes)
    came.update(f"request {outcome}" for outcome in tables.requests["outcome"].astype(str))
    came.update(cause for cause in tables.attempts["cause"].astype(str) if cause)
    came.update(tables.events["reason"].astype(str))
    came["retries"] = len(tables.attempts) - len(tables.requests)
    came["prefix hits"] = int(tables.timeline["prefix_hits"].sum())
    wrong = books.wrong(tables, summary) + wrong_records(tables, summary, loaded.scenario)
    return Checked(seed, wrong, features(scenario), came)


def _guarded(seed: int) -> Checked:
    """As `check`; a run that fails is a finding."""
    try:
        return check(seed)
    except Exception:
        return Checked(seed, [traceback.format_exc(limit=-4)], features(draw_scenario(seed)), Counter())


def main() -> int:
    """Command line; the exit code is 1 if any books do not balance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    arguments = parser.parse_args()
    drawn: Counter[str] = Counter()
    came: Counter[str] = Counter()
    in_scenarios: Counter[str] = Counter()
    unbalanced: list[Checked] = []
    start = time.monotonic()
    seeds = range(arguments.seed, arguments.seed + arguments.scenarios)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for checked in pool.map(_guarded, seeds, chunksize=5):
            drawn.update(checked.drawn)
            came.update(checked.came)
            in_scenarios.update(name for name, count in checked.came.items() if count)
            if checked.wrong:
                unbalanced.append(checked)
    print(f"{arguments.scenarios} scenarios, {time.monotonic() - start:.0f} s")
    print("drawn, in so many scenarios:")
    print("  " + ", ".join(f"{name} {drawn[name]}" for name in sorted(drawn)))
    print("came of it, so often (in so many scenarios):")
    print("  " + ", ".join(f"{name} {count} ({in_scenarios[name]})" for name, count in came.most_common()))
    print(f"{len(unbalanced)} scenarios do not balance")
    for checked in unbalanced[:_TELL]:
        print("\n".join(f"seed {checked.seed}: {what}" for what in checked.wrong))
    return 1 if unbalanced else 0


if __name__ == "__main__":
    sys.exit(main())
