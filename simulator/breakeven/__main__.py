"""``python -m simulator.breakeven SCENARIO``: own fleet or paid API, by load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from simulator.billing import ApiPrices
from simulator.breakeven.report import answer, as_data, plot, table
from simulator.breakeven.study import FleetMode, study
from simulator.command import plain_endings
from simulator.records.folder import ResultsFolder
from simulator.report.write import png
from simulator.runs import scenario_text
from simulator.scenario.load import load_scenario

PLOT_FILE = "breakeven.png"


def _loads(given: str) -> list[float]:
    try:
        loads = [float(part) for part in given.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers such as 0.5,1,2, got {given!r}") from None
    if any(not 0 < load < float("inf") for load in loads):
        raise typer.BadParameter("loads must be above 0")
    return sorted(set(loads))


def main(
    scenario: Annotated[Path, typer.Argument(help="The scenario's YAML file.")],
    api_usd_per_million_input: Annotated[float, typer.Option(min=0, help="The API's price of prompts.")],
    api_usd_per_million_output: Annotated[float, typer.Option(min=0, help="And of generated tokens.")],
    loads: Annotated[str, typer.Option(help="Factors on the scenario's traffic.")] = "0.25,0.5,1,2,4",
    fleet: Annotated[
        Literal["auto", "configured", "smallest"],
        typer.Option(
            help="The fleet as configured, or the smallest that meets the SLO; auto: configured "
            "with an autoscaler, smallest without."
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Results folder; results/NAME-breakeven unless given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario.")
    ] = None,
    replications: Annotated[int, typer.Option(min=1, help="Runs of each load, for intervals.")] = 3,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes for replications.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the answer.")] = False,
) -> None:
    """From which load on is an own fleet cheaper than a paid API? Table, plot and data in the results folder."""
    factors = _loads(loads)
    if api_usd_per_million_input == 0 and api_usd_per_million_output == 0:
        raise typer.BadParameter("an API that charges nothing is always cheaper")
    console, progress = Console(), Console(stderr=True)
    with plain_endings():
        loaded = load_scenario(scenario, change or ())
        mode: FleetMode = "smallest"
        if fleet == "configured" or (fleet == "auto" and loaded.policies):
            mode = "configured"

        def tell(load: float, replicas: int | None) -> None:
            if not quiet:
                progress.print(f"load {load:g}" + ("" if replicas is None else f", {replicas} replicas"))

        folder = out if out is not None else Path("results") / f"{loaded.scenario.name}-breakeven"
        with ResultsFolder(folder) as results:
            made = study(
                loaded,
                ApiPrices.of(api_usd_per_million_input, api_usd_per_million_output),
                factors,
                fleet=mode,
                seed=seed,
                replications=replications,
                jobs=jobs,
                on_run=tell,
            )
            data = as_data(
                made, loaded.scenario.name, (api_usd_per_million_input, api_usd_per_million_output)
            )
            results.write_summary(data, scenario_text(loaded))
            (results.staging / PLOT_FILE).write_bytes(png(plot(made)))
            results.publish()
    if not quiet:
        what = "as configured" if mode == "configured" else "the smallest of fixed size that meets the SLO"
        console.print(f"{loaded.scenario.name}: fleet {what}; {replications} replications of each load")
        console.print(table(made))
        console.print(f"Data and plot: {folder}", soft_wrap=True)
    console.print(answer(made), soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
