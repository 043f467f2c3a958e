"""A comparison as one self-contained HTML page: figures with intervals, differences from the base, the scenarios."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.figure import Figure

from simulator.comparison import Comparison, Measure, interval_text
from simulator.report import style
from simulator.report.html import environment
from simulator.report.write import png

_PANELS: Final = 3
"""In a row."""


@dataclass(frozen=True)
class ComparedScenario:
    """What the page says of a scenario beside its figures.

    Attributes:
        description: the scenario's own.
        yaml: the scenario as it was run.
        row: what was found, by the measure's key.
    """

    description: str
    yaml: str
    row: Mapping[str, Comparison]


def comparison_page(
    scenarios: Mapping[str, ComparedScenario],
    shown: Sequence[Measure],
    *,
    base: str,
    replications: int,
    seed: int,
    command: str,
) -> str:
    """The page.

    Args:
        scenarios: by name.
        shown: the figures.
        base: name of whom the others are compared with.
        replications: of each scenario.
        seed: of every draw.
        command: what makes the page again.
    """
    plot = base64.b64encode(png(plot_comparison(scenarios, shown, base))).decode("ascii")
    page: str = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            scenarios=scenarios,
            shown=shown,
            base=base,
            replications=replications,
            seed=seed,
            command=command,
            plot=plot,
            figure=interval_text,
        )
    )
    return page


def plot_comparison(scenarios: Mapping[str, ComparedScenario], shown: Sequence[Measure], base: str) -> Figure:
    """A panel for each figure: means and 95 % intervals, scenario by scenario; a line marks the base."""
    names = list(scenarios)
    columns = min(len(shown), _PANELS)
    rows = -(-len(shown) // columns)
    places: Any = range(len(names))
    with style.style():
        figure = style.new_figure(12, rows * (0.8 + 0.3 * len(names)))
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, measure in zip(panels, shown, strict=False):
            axes.set_title(measure.title)
            found = [scenarios[name].row[measure.key].interval for name in names]
            for place, name, interval in zip(places, names, found, strict=True):
                if interval is None:
                    continue
                colour = style.INK if name == base else style.BLUE
                half = interval.half_width or 0.0
                axes.errorbar(interval.mean, place, xerr=half, fmt="o", ms=5, capsize=3, color=colour)
                if name == base:
                    axes.axvline(interval.mean, color=style.GREY, lw=1, ls=(0, (4, 3)), zorder=0)
            axes.set_yticks(places, names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            low, high = axes.get_xlim()
            if low > 0 and low < 0.5 * high:
                axes.set_xlim(0, high)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
    return figure
