"""Reading a run: console summary, progress, plots, HTML. Reads records only."""

from simulator.report.console import print_summary
from simulator.report.plots import plot_cost, plot_errors, plot_latency
from simulator.report.progress import RunProgress
from simulator.report.timeline import plot_timeline
from simulator.report.write import write_report

__all__ = [
    "RunProgress",
    "plot_cost",
    "plot_errors",
    "plot_latency",
    "plot_timeline",
    "print_summary",
    "write_report",
]
