"""Scenarios side by side: ``python -m simulator.compare A B ...``, on identical traffic."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulator.command import plain_endings
from simulator.comparison import (
    MEASURES,
    Comparison,
    Measure,
    UnknownFigureError,
    compare,
    interval_text,
    measures,
)
from simulator.files import write_text
from simulator.report.comparison import ComparedScenario, comparison_page
from simulator.runs import replicate, scenario_text
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
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page, too.")
    ] = None,
) -> None:
    """Run scenarios in paired replications: what each misses, loses and costs, each with a 95 % interval."""
    shown = measures(show) if show else MEASURES
    with plain_endings():
        loaded = load_variants(scenarios, change or (), vary or ())
        against = next(iter(loaded)) if base is None else base
        if against not in loaded:
            raise ScenarioError(f"--base {against!r} is not among {', '.join(loaded)}")
        used = loaded[against].scenario.seed if seed is None else seed
        if out is not None:
            _check_out(out)
        results = replicate(list(loaded.values()), seed=used, replications=replications, jobs=jobs)
        try:
            compared = compare(dict(zip(loaded, results, strict=True)), against, shown)
        except UnknownFigureError as error:
            raise ScenarioError(f"--show: the summary has no figure {error.args[0]}") from None
        if out is not None:
            page = comparison_page(
                {
                    name: ComparedScenario(one.scenario.description, scenario_text(one), compared[name])
                    for name, one in loaded.items()
                },
                shown,
                base=against,
                replications=replications,
                seed=used,
                command=_command(scenarios, vary, change, base, show, replications, seed),
            )
            write_text(out, page)
    if as_json:
        print(json.dumps(as_data(compared, shown, against, replications, used), indent=1))
    else:
        _print(compared, shown, against, replications, used)


def _check_out(out: Path) -> None:
    """Before anything is run.

    Raises:
        ScenarioError: a page cannot be written there.
    """
    if out.suffix != ".html":
        raise ScenarioError(f"--out {out}: expected a name that ends in .html")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ScenarioError(f"--out {out}: no file can be written there")


def _command(
    scenarios: list[Path],
    vary: list[str] | None,
    change: list[str] | None,
    base: str | None,
    show: list[str] | None,
    replications: int,
    seed: int | None,
) -> str:
    """The command line that makes the same figures again."""
    words = ["python", "-m", "simulator.compare", *map(str, scenarios)]
    for option, values in (("--vary", vary), ("--set", change), ("--show", show)):
        for value in values or ():
            words += [option, value]
    words += [] if base is None else ["--base", base]
    words += ["--replications", str(replications)]
    words += [] if seed is None else ["--seed", str(seed)]
    return shlex.join(words)


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
        name: [interval_text(row[measure.key].interval) for measure in shown]
        for name, row in compared.items()
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
    return interval_text(found.difference.interval, signed=True) + (" *" if found.significant else "  ")


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
