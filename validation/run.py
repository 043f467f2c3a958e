"""Replay every real run at hand and hold it against what was measured.

    python -m validation.run [--data DIR] [--case NAME] [--out DIR] [--plots DIR]

Writes one small JSON per case, figures only. Cases are found in DIR (``measured/vllm_runs`` and
``measured/aiconfigurator_silicon_dense.csv``) and among our own captures (``calibration/records`` and
``validation/real_traces``), which need no DIR.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from calibration.capture_format import Capture, CaptureError, read_capture
from simulator.scenario.errors import ScenarioError
from validation.cases import captures, silicon, vllm_runs
from validation.cases.case import RunCase
from validation.closed_loop import judge_points
from validation.judge import judge, replay_case
from validation.judge_loads import judge_loads
from validation.plots import save_plot
from validation.real_trace import TRACES
from validation.results import RESULTS, write_results


class Found(NamedTuple):
    """A case that can be judged; ``judge`` takes where a plot goes, or None."""

    name: str
    judge: Callable[[Path | None], dict[str, Any]]


def find_cases(data: Path | None, records: Path = captures.RECORDS) -> Iterator[Found]:
    """Every case at hand.

    Raises:
        CaptureError: a capture that is broken.
    """
    if data is not None:
        for name in vllm_runs.names(data):
            yield Found(name, _run(name, lambda name=name: vllm_runs.load(data, name)))  # type: ignore[misc]
        for setting, points in silicon.settings(data).items():
            yield Found(
                silicon.name_of(setting),
                lambda plot, setting=setting, points=points: judge_points(setting, points),  # type: ignore[misc]
            )
    traces = read_capture(TRACES)
    yield _decisions(traces.manifest.plan, traces)
    for name, folder in captures.folders(records).items():
        capture = read_capture(folder)
        if captures.tells_decisions(capture):
            yield _decisions(name, capture)
        for engine in captures.loads(capture):
            yield _loads(f"{name}--{capture.manifest.engines[engine].name}", capture, engine)


def _decisions(name: str, capture: Capture) -> Found:
    case = f"{name}--decisions"
    return Found(case, lambda plots: captures.decisions(case, capture))


def _loads(name: str, capture: Capture, engine: int) -> Found:
    return Found(name, lambda plots: judge_loads(name, capture, engine, plots))


def _run(name: str, load: Callable[[], RunCase]) -> Callable[[Path | None], dict[str, Any]]:
    def judged(plots: Path | None) -> dict[str, Any]:
        case = load()
        replayed = replay_case(case)
        if plots is not None:
            save_plot(plots / f"{name}.png", case, replayed)
        return judge(case, replayed)

    return judged


def summary(figures: dict[str, Any]) -> str:
    """A case in a line or two for the console."""
    if figures["kind"] == "decisions":
        steps, differing = (
            sum(engine[name] for engine in figures["engines"]) for name in ("steps", "differing_steps")
        )
        return f"{figures['case']}: {differing} of {steps} steps differ"
    errors = figures.get("groups", {}).get("all")
    if not errors:
        return f"{figures['case']}: nothing to compare"
    parts = [
        f"{metric.removesuffix('_ms').upper()} {errors[metric]['mape_pct']:.2f} %"
        for metric in ("ttft_ms", "tpot_ms", "e2e_ms")
        if metric in errors
    ]
    bars = figures.get("bars", [])
    held = sum(bar["reached"] is not None and bar["reached"] <= bar["at_most"] for bar in bars)
    left_out = len(figures.get("left_out", []))
    return (
        f"{figures['case']}: MAPE {', '.join(parts)}"
        + (f"; {held} of {len(bars)} bars reached" if bars else "")
        + (f"; {left_out} points left out" if left_out else "")
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.run", description=(__doc__ or "").split("\n")[0]
    )
    shared = os.environ.get("LLM_SIM_SHARED")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(shared) / "data" if shared else None,
        help="folder of measured runs; default: data in LLM_SIM_SHARED",
    )
    parser.add_argument("--case", help="only this one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--plots", type=Path, help="folder for plots; none are drawn without it")
    args = parser.parse_args(arguments)
    try:
        cases = list(find_cases(args.data))
        chosen = [case for case in cases if args.case in (None, case.name)]
        if not chosen:
            known = ", ".join(case.name for case in cases) or "none; give --data"
            print(f"error: no case {args.case or ''} found; there are {known}", file=sys.stderr)
            return 2
        for case in chosen:
            figures = case.judge(args.plots)
            write_results(args.out, case.name, figures)
            print(summary(figures))
    except (CaptureError, ScenarioError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
