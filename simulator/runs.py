"""Runs a scenario, once or in replications, into a results folder or into memory.

Replication 0 writes the records; the others contribute their summaries. Replications run in worker processes, and
nothing of a result depends on how many.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from simulator.records.folder import ResultsFolder
from simulator.records.recorder import Recorder
from simulator.records.results import Results, read_results
from simulator.report import write_report
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import LoadedScenario, load_scenario
from simulator.simulation import ProgressCallback, Simulation
from simulator.statistics import combine

REPLICATIONS_FILE: Final = "replications.json"


def run(
    scenario: str | Path | LoadedScenario,
    *,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    replications: int = 1,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> Results:
    """Run a scenario and keep the results in memory; what a notebook wants.

    Args:
        scenario: path of a scenario file, or one that is loaded already.
        overrides: assignments such as ``fleet.replicas=4``; only with a path.
        seed: of every draw; the scenario's own if None.
        replications: how many runs with other draws the summary's intervals rest on.
        jobs: worker processes for replications; as many as there are cores if None.
        progress: called now and then with (simulated seconds, requests so far) of the first replication.

    Raises:
        ScenarioError: the scenario, or a file that it names, is wrong.
    """
    loaded = scenario if isinstance(scenario, LoadedScenario) else load_scenario(scenario, overrides)
    recorder = _recorder(loaded, None)
    summary, _ = _summary(loaded, recorder, seed, replications, jobs, progress)
    return Results(recorder.tables(), summary, scenario_text(loaded))


def run_to_folder(
    loaded: LoadedScenario,
    folder: str | Path,
    *,
    seed: int | None = None,
    replications: int = 1,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
    on_report: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run a scenario into a results folder, which appears whole or not at all; returns the summary.

    Args:
        loaded: the scenario.
        folder: the results folder; an older one is replaced.
        seed: of every draw; the scenario's own if None.
        replications: how many runs with other draws the summary's intervals rest on.
        jobs: worker processes for replications; as many as there are cores if None.
        progress: called now and then with (simulated seconds, requests so far) of the first replication.
        on_report: called when the simulation is over and the report begins.

    Raises:
        ScenarioError: the parts of the scenario do not fit together, or a trace is broken.
        ResultsError: the folder cannot be written or holds something else.
    """
    with ResultsFolder(folder) as results:
        recorder = _recorder(loaded, results.staging)
        summary, summaries = _summary(loaded, recorder, seed, replications, jobs, progress)
        if on_report is not None:
            on_report()
        results.write_summary(summary, scenario_text(loaded))
        if replications > 1:
            results.write_json(REPLICATIONS_FILE, summaries)
        write_report(results.staging, read_results(results.staging))
        results.publish()
    return summary


def replicate(
    scenarios: Sequence[LoadedScenario], *, seed: int, replications: int, jobs: int | None = None
) -> list[list[dict[str, Any]]]:
    """Run scenarios in paired replications: replication r of each has the same draws.

    Args:
        scenarios: what is run.
        seed: of every draw, for all of them.
        replications: of each.
        jobs: worker processes; as many as there are cores if None.

    Returns:
        The summaries, by scenario and replication, whatever the number of workers.

    Raises:
        ScenarioError: the parts of a scenario do not fit together, or a trace is broken.
    """
    tasks = [(loaded, seed, index) for loaded in scenarios for index in range(replications)]
    workers = min(len(tasks), jobs or os.cpu_count() or 1)
    if workers == 1:
        flat = [_replicate(*task) for task in tasks]
    else:
        with _workers(workers) as pool:
            flat = list(pool.map(_replicate, *zip(*tasks, strict=True)))
    return [flat[start : start + replications] for start in range(0, len(flat), replications)]


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are ended at once if their results are no longer wanted."""
    children = set(multiprocessing.active_children())
    with ProcessPoolExecutor(count, initializer=_leave_signals_to_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # A replication that has begun would keep us waiting for its end.
            for worker in set(multiprocessing.active_children()) - children:
                worker.terminate()
            raise


def scenario_text(loaded: LoadedScenario) -> str:
    """The scenario as it was run: extensions and overrides applied, files that it names still named."""
    return yaml.safe_dump(loaded.data, sort_keys=False, allow_unicode=True, width=110)


def _recorder(loaded: LoadedScenario, directory: Path | None) -> Recorder:
    return Recorder([workload.name for workload in loaded.scenario.workload], directory)


def _summary(
    loaded: LoadedScenario,
    recorder: Recorder,
    seed: int | None,
    replications: int,
    jobs: int | None,
    progress: ProgressCallback | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first replication's summary, with all replications' intervals beside; and each one's own."""
    if replications <= 1:
        summary = _simulate(loaded, recorder, seed, 0, progress)
        return summary, [summary]
    workers = min(replications - 1, max(1, (jobs or os.cpu_count() or 1) - 1))
    one = partial(_replicate, loaded, seed)
    if jobs == 1:
        first = _simulate(loaded, recorder, seed, 0, progress)
        others: Sequence[dict[str, Any]] = [one(index) for index in range(1, replications)]
    else:
        with _workers(workers) as pool:
            pending = pool.map(one, range(1, replications))
            first = _simulate(loaded, recorder, seed, 0, progress)
            others = list(pending)
    summaries = [first, *others]
    return {**first, "replications": combine(summaries)}, summaries


def _replicate(loaded: LoadedScenario, seed: int | None, index: int) -> dict[str, Any]:
    return _simulate(loaded, _recorder(loaded, None), seed, index, None)


def _simulate(
    loaded: LoadedScenario,
    recorder: Recorder,
    seed: int | None,
    replication: int,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    try:
        return Simulation(loaded, recorder, seed=seed, replication=replication).run(progress)
    except ScenarioError as error:
        if error.file is not None or error.key is None:
            raise
        # Parts of the simulation know the key of what they were given, not where it is written.
        key = (int(part) if part.isdigit() else part for part in error.key.split("."))
        raise loaded.error(error.reason, *key) from None


def _leave_signals_to_parent() -> None:
    """Ctrl-C is for the parent, which then ends its workers; whatever it does on SIGTERM they do not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
