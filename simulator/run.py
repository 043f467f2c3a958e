"""The main command: ``python -m simulator.run SCENARIO``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simulator.command import EXIT_SLO_MISSED, plain_endings
from simulator.report.console import print_summary
from simulator.report.progress import RunProgress
from simulator.report.text import verdict
from simulator.runs import run_to_folder
from simulator.scenario.load import load_scenario


def main(
    scenario: Annotated[Path, typer.Argument(help="The scenario's YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Results folder; results/NAME unless given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. workload.0.arrivals.rate=12/s."),
    ] = None,
    replications: Annotated[int, typer.Option(min=1, help="Runs with other draws, for intervals.")] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes for replications.")] = None,
    fail_on_slo: Annotated[bool, typer.Option("--fail-on-slo", help="Exit 3 if the SLO is missed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, no summary.")] = False,
) -> None:
    """Simulate a scenario: summary on the console; tables, plots and report.html in the results folder."""
    with plain_endings():
        loaded = load_scenario(scenario, change or ())
        folder = out if out is not None else Path("results") / loaded.scenario.name
        progress = RunProgress(
            loaded.scenario.duration, Console(stderr=True), label=loaded.scenario.name, quiet=quiet
        )
        with progress:
            summary = run_to_folder(
                loaded, folder, seed=seed, replications=replications, jobs=jobs, progress=progress.update
            )
    if not quiet:
        print_summary(summary, Console(), folder=folder)
    if fail_on_slo and not verdict(summary)[0]:
        raise typer.Exit(EXIT_SLO_MISSED)


if __name__ == "__main__":
    typer.run(main)
