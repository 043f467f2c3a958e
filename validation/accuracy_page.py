"""Write docs/accuracy.md, and the errors that a run's report states, from the committed results.

python -m validation.accuracy_page [--results DIR] [--page FILE] [--validated FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from simulator.files import write_text
from validation.accuracy_loads import loads_section
from validation.accuracy_text import (
    METRICS,
    STATISTICS,
    aggregate_cells,
    facts,
    milliseconds,
    number,
    pct,
    signed,
)
from validation.results import RESULTS, figure, read_results
from validation.validated_file import VALIDATED, validated_text

PAGE: Final = Path(__file__).parents[1] / "docs" / "accuracy.md"

Case = dict[str, Any]

_HEAD: Final = """\
# Accuracy

How far the simulator is from runs of real engines, request by request. No figure of the simulator was fitted to these
runs: step times come from measured kernels, from sweeps of an engine or from data sheets, the rest from vLLM's own
rules. Bad cases are shown with the good ones.

This page is written by `make accuracy` from `validation/results`, which `python -m validation.run --data DIR` writes
from the runs. To hold the simulator against a run of your own, see
[check it against your own benchmark](guides/check-against-your-benchmark.md).

MAPE is the mean over requests of |predicted / measured − 1|; bias is the median of predicted / measured − 1. TTFT
and E2E are the client's. A regime is declared from the load that was measured, never from an error:

- *unqueued*: the first schedule after its arrival took the request;
- *light*, *knee*: fewer than half of `max_num_seqs` were running when it was scheduled, or more;
- *overload*: it waited because the batch was full; *KV-starved*: it waited because KV blocks were lacking.

What is known of the larger errors, from the tables of single steps below:

- On the RTX PRO 6000 steps of some sizes are late and others are not: 33 to 64 decodes by 1.3 ms, 769 to 896 and 1,281
  to 1,408 tokens by 8 ms, other steps with prompts by 1 to 5 ms. The edges are those of the tiles of matrix products,
  and such a step takes as long as one of the next tile: the run used other kernels for these sizes than the tables,
  which were measured under CUDA 13 and agree with aiconfigurator's; which it had, the run does not say. With the times
  that single steps show in place of the tables', every target of this run is met (below).
- On the RTX 4090 steps of every kind are a few per cent shorter than the sum of their kernels, bound by memory and by
  arithmetic alike, and their edges are where the tables have them: as if that card had been clocked higher in the run
  than under the profiler.
- What a token of a batch's longest context costs, beyond the mean one, can be read off the pure decode steps of both
  runs, in us with two standard errors: RTX 4090 0.75 ± 0.21 for the tables' 0.70; RTX PRO 6000 0.42 ± 0.11 for 0.40
  with 97 to 128 requests, 0.10 ± 0.19 for 0.45 with 65 to 96 (where contexts hardly differ from step to step) and
  0.65 ± 0.17 for 0.47 with fewer.
- The first requests of a run meet kernels that are still being compiled.
- On the CPU steps with prompts take longer in traffic than in the sweeps that the profile is fitted to, so TTFT is
  predicted too short. A sweep repeats a few sizes without a pause. In traffic a number of tokens that the engine's
  process meets for the first time costs some milliseconds more (its matrix products are set up then; the first run of
  `knee` had most of these), and so does a prompt that finds the engine idle. What is left is 2 to 4 % of decode steps,
  which is what repeats differ by, and 9 % of the others; client and engine share two cores, whose part was not measured
  apart. None of it is put into the profile.
- That CPU was faster than the plan of its loads assumed: `knee` and `overload` met a light load.
- Closed-loop points on one GPU with long answers hold more contexts than a 16-bit KV cache has room for: they are
  likely to be of an 8-bit one, which they do not state.
"""

_OTHERS: Final = """\
## What others publish

| simulator | runs | TTFT | TPOT | E2E |
| --- | --- | --- | --- | --- |
| LLMServingSim | the two runs above, its own predictions | in the tables | | |
| NVIDIA AISimulate | closed-loop points of vLLM from the same collection, MAPE | 17.1 % | 8.9 % | |
| BLIS | 38 runs of its authors, median of the errors of means | 18 % | 6.5 % | 6.8 % |

The figures of the last two are their authors' own, on their own selection of runs.
"""


def render(cases: Sequence[Case]) -> str:
    """The page."""
    runs = [case for case in cases if case["kind"] == "run"]
    points = [case for case in cases if case["kind"] == "closed loop"]
    parts = [_HEAD, _bars(cases)]
    if runs:
        parts.append("## Runs, request by request\n")
        parts += [_run(case) for case in runs]
    loads = [case for case in cases if case["kind"] == "loads"]
    if loads:
        parts.append(loads_section(loads))
    if points:
        parts.append(_points(points))
    decisions = [case for case in cases if case["kind"] == "decisions"]
    if decisions:
        parts.append(_decisions(decisions))
    parts.append(_OTHERS)
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# --- targets --------------------------------------------------------------------------------------------------


def _bars(cases: Sequence[Case]) -> str:
    lines = [
        "## Targets\n",
        "| case | figure | target | reached | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        for bar in case.get("bars", []):
            reached = bar["reached"]
            verdict = "—" if reached is None else "yes" if reached <= bar["at_most"] else "**no**"
            cells = (
                case["title"],
                _figure_name(bar["figure"]),
                f"≤ {bar['at_most']:g} %",
                pct(reached),
                verdict,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure_name(path: str) -> str:
    group, metric, statistic = path.rsplit(".", 2)
    what = {"mape_pct": "MAPE", "median_ape_pct": "median of the absolute error"}.get(statistic, statistic)
    return f"{METRICS[metric]} {what}" + ("" if group == "all" else f", {group}")


# --- runs -----------------------------------------------------------------------------------------------------


def _run(case: Case) -> str:
    lines = [f"### {case['title']}\n", *facts(case), ""]
    if case.get("groups"):
        lines += [*_group_table(case), "", *_aggregates(case)]
    if "timeline" in case:
        lines += ["", _timeline(case["timeline"])]
    if "residual" in case:
        lines += ["", *_residual(case["residual"])]
    return "\n".join(lines)


def _group_table(case: Case) -> Iterator[str]:
    published = case.get("published", {})
    whose = ["", *published]
    yield (
        "| requests | of | "
        + " | ".join(
            f"{name} MAPE" + (f", {who}" if who else "") for name in METRICS.values() for who in whose
        )
        + " | TTFT median, p90 | TTFT bias | KS: TTFT, TPOT, E2E |"
    )
    yield "| --- | --- |" + " --- |" * (len(METRICS) * len(whose) + 3)
    for name, group in case["groups"].items():
        cells = [
            pct(figure(group if not who else published[who][name], f"{metric}.mape_pct"))
            for metric in METRICS
            for who in whose
        ]
        spread = (
            f"{pct(figure(group, 'ttft_ms.median_ape_pct'))}, {pct(figure(group, 'ttft_ms.p90_ape_pct'))}"
        )
        distances = ", ".join(number(figure(group, f"{metric}.ks")) for metric in METRICS)
        bias = figure(group, "ttft_ms.bias_pct")
        yield f"| {name} | {group['requests']} | {' | '.join(cells)} | {spread} | {signed(bias)} | {distances} |"


def _aggregates(case: Case) -> Iterator[str]:
    yield f"| | {' | '.join(STATISTICS)} |"
    yield "| --- |" + " --- |" * len(STATISTICS)
    every = case["groups"]["all"]
    for metric, name in METRICS.items():
        if metric not in every:
            continue
        yield f"| {name}, predicted for measured | {aggregate_cells(every[metric])} |"
    measured, predicted = case["aggregate"]["measured"], case["aggregate"]["predicted"]
    known = measured["preemptions"]
    yield ""
    yield (
        f"Makespan {predicted['makespan_s']:.1f} s for {measured['makespan_s']:.1f} s; "
        f"{predicted['output_tokens_per_s']:.0f} output tokens/s for {measured['output_tokens_per_s']:.0f}; "
        f"{predicted['preemptions']} preemptions" + ("." if known is None else f" for {known}.")
    )


def _timeline(timeline: dict[str, Any]) -> str:
    parts = [
        f"{name} differ by {value['mean_abs_difference']:.1f} requests on average (measured mean "
        f"{value['measured_mean']:.1f}, most {value['measured_max']:.0f}; predicted {value['predicted_mean']:.1f} and "
        f"{value['predicted_max']:.0f})"
        for name, value in timeline.items()
    ]
    return f"Second by second, {'; '.join(parts)}."


def _residual(residual: dict[str, Any]) -> Iterator[str]:
    yield "What the error is made of (`python -m validation.residual`): MAPE after one thing is changed."
    yield ""
    yield "| changed | TTFT | TPOT | E2E | TTFT, unqueued, median |"
    yield "| --- | --- | --- | --- | --- |"
    for row in residual["rows"]:
        what = row["kind"] if row["what"] == "nothing" else f"{row['kind']}: {row['what']}"
        cells = " | ".join(pct(row.get(metric)) for metric in METRICS)
        yield f"| {what} | {cells} | {pct(row.get('unqueued_ttft_median'))} |"
    yield ""
    yield _why(residual)
    if residual.get("decode_steps"):
        yield ""
        yield "Single steps, as far as the run's time stamps tell (`validation/measured_steps.py`), their closest half:"
        yield ""
        yield "| steps with | number | decoding | profile | measured less profile | measured / profile |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for key, column, what in (
            ("decode_steps", "decodes", "decodes only"),
            ("prompt_steps", "step_tokens", "tokens, prompts among them"),
        ):
            for step in residual[key]:
                yield (
                    f"| {step[column]} {what} | {step['steps']} | {step['median_decodes']:.0f} | "
                    f"{milliseconds(step['profile_ms'])} | {step['measured_less_profile_ms']:+.2f} ms | "
                    f"{step['measured_per_profile']:.3f} |"
                )


def _why(residual: dict[str, Any]) -> str:
    """The swap that gains most, for each metric."""
    base = residual["rows"][0]
    parts = []
    for metric, name in METRICS.items():
        swaps = [
            row
            for row in residual["rows"][1:]
            if metric in row and not (row["kind"] == "true result" and row[metric] == 0)
        ]
        best = min(swaps, key=lambda row: row[metric], default=None)
        if best is not None and best[metric] < base[metric]:
            parts.append(
                f"{name} from {pct(base[metric])} to {pct(best[metric])} by {best['what'].split(':')[0]}"
            )
    return f"What gains most: {'; '.join(parts)}." if parts else "No swap gains."


# --- points ---------------------------------------------------------------------------------------------------


def _points(cases: Sequence[Case]) -> str:
    lines = [
        "## Closed-loop points\n",
        f"One number each for TTFT and TPOT; {cases[0]['source']}.",
        "Engine version and statistic are not stated: means are compared, the error of medians is given beside.",
        "Points of Llama-3.1-70B are replayed as InferenceMAX's README has client and server (lengths from 0.8 to 1",
        "times the nominal one); of the others nothing is known, they are replayed with equal lengths under vLLM's",
        "defaults, which keeps all clients in step. Points that beat the roofline are left out and listed.",
        "",
        "| points of | step times | number | TTFT MAPE | TTFT of medians | TPOT MAPE | TPOT bias | left out |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        every = case.get("groups", {}).get("all", {})
        lines.append(
            f"| {case['title']} | {case.get('deployment', {}).get('step_times', '—')} | {len(case['points'])} | "
            f"{pct(figure(every, 'ttft_ms.mape_pct'))} | {pct(figure(every, 'ttft_ms.mape_of_medians_pct'))} | "
            f"{pct(figure(every, 'tpot_ms.mape_pct'))} | {signed(figure(every, 'tpot_ms.bias_pct'))} | "
            f"{len(case['left_out'])} |"
        )
    worst = [
        f"- {case['title']}, {_at(point)}: TTFT {signed(point['ttft_ms']['error_pct'])}, "
        f"TPOT {signed(point['tpot_ms']['error_pct'])}"
        for case in cases
        if (point := max(case["points"], key=lambda p: abs(p["ttft_ms"]["error_pct"]), default=None))
        is not None
    ]
    lines += ["", "The worst point of each, by TTFT:", "", *worst]
    left_out = [
        f"- {case['title']}, {_at(point)}: {point['why']}" for case in cases for point in case["left_out"]
    ]
    if left_out:
        lines += ["", "Left out:", "", *left_out]
    return "\n".join(lines)


def _decisions(cases: Sequence[Case]) -> str:
    lines = [
        "## Decisions\n",
        "Steps of a real engine, replayed at the arrivals that it had: who is scheduled with how many tokens, is",
        "admitted, preempted or finished, and how many blocks are free, in every step.",
        "",
        "| engine | requests | steps | preemptions | prefix hits | steps that differ |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {engine['engine']} | {engine['requests']} | {engine['steps']} | {engine['preemptions']} | "
        f"{engine['prefix_hits']} | {engine['differing_steps']} |"
        for case in cases
        for engine in case["engines"]
    ]
    return "\n".join(lines)


def _at(point: dict[str, Any]) -> str:
    return f"{point['input_tokens']}/{point['output_tokens']} tokens at concurrency {point['concurrency']}"


def main(arguments: list[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.accuracy_page", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--validated", type=Path, default=VALIDATED)
    args = parser.parse_args(arguments)
    cases = read_results(args.results)
    for path, text in ((args.page, render(cases)), (args.validated, validated_text(cases))):
        write_text(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
