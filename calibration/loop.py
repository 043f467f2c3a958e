"""The whole loop in one command: capture a real engine, fit, simulate the validation loads, compare.

    python -m calibration.loop --plan cpu-tiny --out results/cpu

writes the capture, the profile with its plots and ``report.txt`` into the folder. With ``--capture DIR`` it starts
from a capture that is there. The exit code is 1 if our engine decides a single step otherwise than the real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from calibration.capture_format import Capture, CaptureError
from calibration.capture_set import read_capture_set
from calibration.fit import Fit, fit_profile, report, write_plots
from calibration.load_comparison import (
    METRICS,
    STATISTICS,
    LoadRun,
    compare_loads,
    repeat_noise,
    statistic,
)
from simulator.catalog import CatalogError
from simulator.files import write_text
from simulator.step_time.profile import dump_profile
from validation.real_trace import differing_steps, traces_of

EXIT_DIFFERS: Final = 1
EXIT_BAD_INPUT: Final = 2


def decisions(capture: Capture) -> tuple[int, list[str]]:
    """Number of steps that our engine decides otherwise, and a line for each engine process."""
    lines, differing = [], 0
    if capture.requests.num_rows and not capture.requests["arrival_step"].drop_null():
        return 0, [f"{capture.folder.name}: does not tell when the scheduler saw a request; not replayed"]
    for trace in traces_of(capture):
        steps = differing_steps(trace)
        differing += len(steps)
        lines.append(
            f"{trace.source}: {len(trace.arrivals)} requests, {len(trace.steps)} steps, "
            f"{trace.num_preemptions} preemptions, {trace.num_prefix_hits} prefix hits, "
            f"{len(steps)} differing steps" + (f", the first {steps[0]}" if steps else "")
        )
    return differing, lines


def load_table(runs: list[LoadRun]) -> list[str]:
    """Client latencies of each load, measured and simulated, beside what repeats differ by."""
    head = f"{'load':<16} {'requests':>8}"
    for metric in METRICS:
        head += f" | {metric + ' mean':>10} {'sim.':>8} {'error':>8} {'p95':>8} {'error':>8}"
    lines = [head + "   (ms)"]
    for run in runs:
        line = f"{run.stage.name:<16} {run.requests:>8}"
        for metric in METRICS:
            line += (
                f" | {statistic(run.measured, metric, 'mean'):>10.1f} "
                f"{statistic(run.simulated, metric, 'mean'):>8.1f} "
                f"{100 * run.error(metric, 'mean'):>+6.1f} % {statistic(run.measured, metric, 'p95'):>8.1f} "
                f"{100 * run.error(metric, 'p95'):>+6.1f} %"
            )
        lines.append(line + (f"   {run.out_of_range} steps out of range" if run.out_of_range else ""))
    for name in STATISTICS:
        noise = {metric: repeat_noise(runs, metric, name) for metric in METRICS}
        lines += [
            f"repeat noise of {load}, {name}: "
            + ", ".join(f"{metric} {100 * noise[metric][load]:.1f} %" for metric in METRICS)
            for load in noise["TTFT"]
        ]
    if not any(run.stage.repeat_of for run in runs):
        lines.append("repeat noise: not known, no load of the plan is repeated")
    return lines


def step_noise(fit: Fit) -> list[str]:
    """How much the machine itself is faster or slower from one run of a load to the next, by its steps."""
    predictor = fit.predictor
    ratios: dict[tuple[int, int], list[float]] = {}
    for step in fit.captures.loads:
        if step.step_us:
            ratio = step.step_us / predictor.step_us(step)
            ratios.setdefault((step.capture, step.stage), []).append(ratio)
    groups: dict[str, list[float]] = {}
    for (capture, stage), values in ratios.items():
        entry = fit.captures.captures[capture].manifest.stages[stage]
        groups.setdefault(entry.repeat_of or entry.name, []).append(float(np.median(values)))
    lines = ["", "step time, measured over predicted, median of a run's steps:"]
    for load, values in groups.items():
        line = f"  {load:<16} " + ", ".join(f"{value:.3f}" for value in values)
        if len(values) > 1:
            line += f"; repeat noise {100 * (max(values) - min(values)) / float(np.mean(values)):.1f} %"
        lines.append(line)
    return lines


def run_loop(capture_folders: Iterable[Path], out: Path, model: str | None = None) -> tuple[int, str]:
    """Fit, simulate and compare; returns the number of differing steps and the report.

    Raises:
        CaptureError: captures that cannot be read or do not belong together.
        ValueError: captures from which no profile can be fitted.
    """
    captures = read_capture_set(list(capture_folders), model)
    fit = fit_profile(captures)
    write_text(out / "profile.yaml", dump_profile(fit.profile))
    write_plots(fit, out / "plots")
    differing, lines = (
        0,
        [report(fit), *step_noise(fit), "", "scheduling decisions, ours against the real engine's:"],
    )
    for capture in captures.captures:
        more, told = decisions(capture)
        differing += more
        lines += told
    for capture in captures.captures:
        lines += ["", f"loads of {capture.manifest.plan}, simulated with the fitted profile:"]
        lines += load_table(compare_loads(capture, fit.profile))
    text = "\n".join(lines)
    write_text(out / "report.txt", text + "\n")
    return differing, text


def _capture(plan: Path, out: Path, resume: bool) -> int:
    """Capture in a process of its own: vLLM changes signal handlers and the environment for good."""
    command = [sys.executable, "-m", "calibration.capture", "--plan", str(plan), "--out", str(out)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command + ["--resume"] * resume, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # It got the signal too, keeps what it has and says so.


def main(
    out: Annotated[Path, typer.Option(help="folder for the capture, the profile, its plots and the report")],
    plan: Annotated[Path, typer.Option(help="plan's file, or the name of a shipped one")] = Path("cpu-tiny"),
    capture: Annotated[
        list[Path] | None, typer.Option(help="start from this capture; may be given several times")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted capture")] = False,
    model: Annotated[str | None, typer.Option(help="which model, if the captures hold several")] = None,
) -> None:
    """Capture a real engine, fit a profile, simulate its validation loads and compare."""
    began = time.monotonic()
    folders = list(capture or ())
    if not folders:
        folders = [out / "capture"]
        code = _capture(plan, folders[0], resume)
        if code:
            raise typer.Exit(code)
    captured = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    try:
        differing, text = run_loop(folders, out, model)
    except (CaptureError, CatalogError, ValueError) as error:
        typer.echo(f"loop: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    ended = time.monotonic()
    typer.echo(text)
    typer.echo(f"\ncapture {captured - began:.0f} s, fit and comparison {ended - captured:.0f} s")
    raise typer.Exit(EXIT_DIFFERS if differing else 0)


if __name__ == "__main__":
    typer.run(main)
