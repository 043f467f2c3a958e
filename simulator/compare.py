"""Scenarios side by side: ``python -m simulator.compare A B ...``, on identical traffic."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from simulator.comparison import MEASURES, Comparison, compare
from simulator.runs import replicate
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import LoadedScenario, load_scenario
from simulator.statistics.intervals import Interval

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(
    scenarios: Annotated[list[Path], typer.Argument(help="Two scenarios or more.")],
    base: Annotated[
        Path | None, typer.Option(help="Whom the others are compared with; the first unless given.")
    ] = None,
    replications: Annotated[int, typer.Option(min=2, help="Runs of each, with other draws.")] = 10,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every draw; the base's own unless given.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """Run scenarios in paired replications: SLO misses, lost requests, dollars, each with a 95 % interval."""
    try:
        loaded = [load_scenario(path) for path in scenarios]
        first = 0 if base is None else _position(scenarios, base)
        names = [each.scenario.name for each in loaded]
        if len(set(names)) != len(names):
            raise ScenarioError(f"the scenarios need different names, got {', '.join(names)}")
        _same_traffic(loaded, first)
        used = loaded[first].scenario.seed if seed is None else seed
        results = replicate(loaded, seed=used, replications=replications, jobs=jobs)
    except ScenarioError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    summaries = dict(zip(names, results, strict=True))
    compared = compare(summaries, names[first])
    _print(compared, names[first], replications, used)
    if out is not None:
        out.write_text(json.dumps(as_data(compared, names[first], used), indent=1) + "\n", encoding="utf-8")


def _position(scenarios: list[Path], base: Path) -> int:
    if base not in scenarios:
        raise ScenarioError(f"--base {base} is not among the scenarios")
    return scenarios.index(base)


def _same_traffic(loaded: list[LoadedScenario], first: int) -> None:
    """Pairs need the same traffic."""
    base = loaded[first].scenario
    for each in loaded:
        for key in ("workload", "duration"):
            if getattr(each.scenario, key) != getattr(base, key):
                raise each.error(f"differs from {base.name}: comparisons need the same traffic", key)


def _table(title: str, rows: dict[str, list[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.add_column("scenario", no_wrap=True)
    for measure in MEASURES:
        table.add_column(measure.title, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _print(compared: dict[str, dict[str, Comparison]], base: str, replications: int, seed: int) -> None:
    console = Console()
    figures = {
        name: [_figure(row[measure.key].interval) for measure in MEASURES] for name, row in compared.items()
    }
    differences = {
        name: [
            _figure(found.difference.interval, signed=True)
            for found in (row[measure.key] for measure in MEASURES)
            if found.difference is not None
        ]
        for name, row in compared.items()
        if name != base
    }
    title = f"{replications} paired replications, seed {seed}; ± is half of a 95 % interval"
    console.print(_table(title, figures))
    console.print(_table(f"Difference from {base}, replication by replication", differences))


def _figure(interval: Interval, *, signed: bool = False) -> str:
    half = interval.half_width or 0.0
    digits = 0 if max(abs(interval.mean), half) >= 100 else 2
    mean = f"{interval.mean:+,.{digits}f}" if signed else f"{interval.mean:,.{digits}f}"
    return f"{mean} ± {half:,.{digits}f}"


def as_data(compared: dict[str, dict[str, Comparison]], base: str, seed: int) -> dict[str, Any]:
    """The comparison as plain data."""

    def interval(given: Interval) -> dict[str, Any]:
        return {"mean": given.mean, "half_width": given.half_width, "replications": given.replications}

    return {
        "base": base,
        "seed": seed,
        "scenarios": {
            name: {
                key: {
                    **interval(found.interval),
                    "difference": None
                    if found.difference is None
                    else {**interval(found.difference.interval), "p_value": found.difference.p_value},
                }
                for key, found in row.items()
            }
            for name, row in compared.items()
        },
    }


if __name__ == "__main__":
    typer.run(main)
