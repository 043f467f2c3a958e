"""Scenarios side by side: ``python -m simulator.compare A B ...``, on identical traffic."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulator.command import plain_endings
from simulator.comparison import MEASURES, Comparison, Measure, UnknownFigureError, compare, measures
from simulator.runs import replicate
from simulator.scenario.errors import ScenarioError
from simulator.statistics.intervals import Interval
from simulator.variants import load_variants

_PIPE_WIDTH: Final = 160


def main(
    scenarios: Annotated[list[Path], typer.Argument(help="Scenarios; one is enough with --vary.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V1,V2,...", help="Compare values of a key, e.g. fleet.replicas=2,3,4."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of all of them."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Name of whom the others are compared with; the first unless given.")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="A figure of the summary, e.g. engine.preemptions; in place of the usual."
        ),
    ] = None,
    replications: Annotated[int, typer.Option(min=2, help="Runs of each, with other draws.")] = 10,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every draw; the base's own unless given.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run scenarios in paired replications: what each misses, loses and costs, each with a 95 % interval."""
    shown = measures(show) if show else MEASURES
    with plain_endings():
        loaded = load_variants(scenarios, change or (), vary or ())
        against = next(iter(loaded)) if base is None else base
        if against not in loaded:
            raise ScenarioError(f"--base {against!r} is not among {', '.join(loaded)}")
        used = loaded[against].scenario.seed if seed is None else seed
        results = replicate(list(loaded.values()), seed=used, replications=replications, jobs=jobs)
        try:
            compared = compare(dict(zip(loaded, results, strict=True)), against, shown)
        except UnknownFigureError as error:
            raise ScenarioError(f"--show: the summary has no figure {error.args[0]}") from None
    if as_json:
        print(json.dumps(as_data(compared, shown, against, replications, used), indent=1))
    else:
        _print(compared, shown, against, replications, used)


def _table(title: str, shown: tuple[Measure, ...], rows: dict[str, list[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.add_column("scenario", no_wrap=True)
    for measure in shown:
        table.add_column(escape(measure.title), justify="right")
    for name, cells in rows.items():
        table.add_row(escape(name), *cells)
    return table


def _print(
    compared: dict[str, dict[str, Comparison]],
    shown: tuple[Measure, ...],
    base: str,
    replications: int,
    seed: int,
) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    figures = {
        name: [_figure(row[measure.key].interval) for measure in shown] for name, row in compared.items()
    }
    differences = {
        name: [_difference(row[measure.key]) for measure in shown]
        for name, row in compared.items()
        if name != base
    }
    title = f"{replications} paired replications, seed {seed}; ± is half of a 95 % interval"
    console.print(_table(title, shown, figures))
    if differences:
        title = f"Difference from {base}, replication by replication; * holds for all of them together (Holm, 5 %)"
        console.print(_table(title, shown, differences))


def _difference(found: Comparison) -> str:
    if found.difference is None:
        return "–"
    return _figure(found.difference.interval, signed=True) + (" *" if found.significant else "  ")


def _figure(interval: Interval | None, *, signed: bool = False) -> str:
    return "–" if interval is None else figure_text(interval.mean, interval.half_width, signed=signed)


def figure_text(mean: float, half_width: float | None, *, signed: bool = False) -> str:
    """``1,234 ± 56``: as many digits as the size of the figure asks for."""
    half = half_width or 0.0
    size = max(abs(mean), half)
    digits = 0 if size >= 100 else 2 if size >= 1 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
    number = f"{mean:+,.{digits}f}" if signed else f"{mean:,.{digits}f}"
    return number if half == 0 else f"{number} ± {half:,.{digits}f}"


def as_data(
    compared: dict[str, dict[str, Comparison]],
    shown: tuple[Measure, ...],
    base: str,
    replications: int,
    seed: int,
) -> dict[str, Any]:
    """The comparison as plain data."""

    def interval(given: Interval) -> dict[str, Any]:
        return {"mean": given.mean, "half_width": given.half_width, "replications": given.replications}

    return {
        "base": base,
        "seed": seed,
        "replications": replications,
        "figures": {measure.key: measure.title for measure in shown},
        "scenarios": {
            name: {
                key: None
                if found.interval is None
                else {
                    **interval(found.interval),
                    "difference": None
                    if found.difference is None
                    else {
                        **interval(found.difference.interval),
                        "p_value": found.difference.p_value,
                        "adjusted_p_value": found.adjusted_p,
                        "significant": found.significant,
                    },
                }
                for key, found in row.items()
            }
            for name, row in compared.items()
        },
    }


if __name__ == "__main__":
    typer.run(main)
