"""The page of a comparison, from figures given by hand."""

from __future__ import annotations

from simulator.comparison import compare, measures
from simulator.report.comparison import ComparedScenario, comparison_page, plot_comparison

SHOWN = measures(["engine.preemptions", "latency.p99"])


def _scenarios() -> dict[str, ComparedScenario]:
    def summary(preemptions: int, p99: float | None) -> dict[str, object]:
        return {"engine": {"preemptions": preemptions}, "latency": {"p99": p99}}

    found = compare(
        {
            "base": [summary(10, 1.0), summary(12, 1.2)],
            "other": [summary(110, None), summary(112, None)],
        },
        "base",
        SHOWN,
    )
    return {name: ComparedScenario("", "name: x\n", row) for name, row in found.items()}


def test_each_figure_has_a_panel_and_each_scenario_a_place() -> None:
    figure = plot_comparison(_scenarios(), SHOWN, "base")
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["engine.preemptions", "latency.p99"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["base", "other"]
    # A mean each, and the line that marks the base's.
    assert len(first.containers) == 2
    assert len(second.containers) == 1  # nothing to show of the other's p99


def test_means_differences_and_what_is_not_there() -> None:
    page = comparison_page(_scenarios(), SHOWN, base="base", replications=2, seed=3, command="again")
    assert "11.00 ± 12.71" in page  # t(0.975, 1) = 12.706 times a standard error of 1
    assert "+100" in page
    assert page.count("–") == 1
    assert "seed 3" in page
