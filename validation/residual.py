"""What the error of a case is made of: what is true is swapped in, one thing at a time.

    python -m validation.residual --case NAME [--data DIR] [--out DIR]

Each row replays the case with one thing changed and shows how its errors move. Rows of three kinds:

- *assumptions* that are ours to make, changed: the front end, prefix hits, the number of KV blocks, async scheduling;
- *true inputs*: planned in place of measured arrivals, the true time of the first step (an engine's first step still
  compiles), and step times multiplied by factors that make this run's decodes last as long as they did. The factors
  are found from this very run, so its errors with them say what better step times could gain, and nothing else;
- *true results*: what the errors would be if admission, first token or time per token had been right. They are
  arithmetic on the predictions, nothing is replayed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from simulator.attempts import request_id_of
from simulator.engines.protocol import StepTime
from simulator.engines.vllm.plain import StepRecord
from simulator.resolve import ReplicaPlan
from simulator.step_time import num_kv_blocks
from simulator.units import PS_PER_S, to_ps
from validation.cases import vllm_runs
from validation.cases.case import RunCase
from validation.comparison import METRICS, Figures, compare
from validation.measured_steps import BINS, DECODE_BINS, decode_steps, steps_with_prompts, summary
from validation.results import RESIDUAL, RESULTS, write_results
from validation.single_replica import Replayed, replay

KINDS: Final = ("pure decode", "beside under 1,024 prompt tokens", "beside 1,024 or more")
_LARGE_CHUNK: Final = 1024


def kind_of(prompt_tokens: int) -> int:
    """Which of `KINDS` a step with so many prompt tokens is."""
    if prompt_tokens == 0:
        return 0
    return 1 if prompt_tokens < _LARGE_CHUNK else 2


Factor = Callable[[int, int], float]
"""What a step's time is multiplied by, from its decodes and its prompt tokens."""


def as_predicted(decodes: int, prompt_tokens: int) -> float:
    """No factor."""
    return 1.0


def by_kind(factors: Sequence[float]) -> Factor:
    """A factor for each of `KINDS`."""
    return lambda decodes, prompt_tokens: factors[kind_of(prompt_tokens)]


def by_size(decode_steps: Sequence[dict[str, Any]], prompt_steps: Sequence[dict[str, Any]]) -> Factor:
    """Measured / profile of single steps of that size: of decodes, or of all tokens where prompts are among them.

    Args:
        decode_steps: their `summary`.
        prompt_steps: likewise.
    """
    decodes_x, tokens_x = _ratios(decode_steps, "decodes"), _ratios(prompt_steps, "step_tokens")

    def factor(decodes: int, prompt_tokens: int) -> float:
        size, ratios = (decodes + prompt_tokens, tokens_x) if prompt_tokens else (decodes, decodes_x)
        return next((ratio for upper, ratio in ratios if size <= upper), ratios[-1][1])

    return factor


def _ratios(rows: Sequence[dict[str, Any]], column: str) -> list[tuple[int, float]]:
    """(upper edge, ratio) of the bins that have steps; an empty one has the next one's."""
    return [(int(row[column].split()[-1]), row["measured_per_profile"]) for row in rows] or [(0, 1.0)]


class FactoredStepTime:
    """Step times with factors, and the true time of the first step.

    Args:
        base: the times.
        factor: of each step.
        first_ps: time of the first step, or None.
    """

    def __init__(self, base: StepTime, factor: Factor = as_predicted, first_ps: int | None = None):
        self._base = base
        self._factor = factor
        self._first_ps = first_ps

    def step_ps(
        self,
        decode_requests: int,
        decode_context_tokens: int,
        prefills: Sequence[tuple[int, int]],
        decode_spread_tokens: int = 0,
    ) -> int:
        first_ps, self._first_ps = self._first_ps, None
        if first_ps is not None:
            return first_ps
        factor = self._factor(decode_requests, sum(tokens for tokens, _ in prefills))
        step = decode_requests, decode_context_tokens, prefills, decode_spread_tokens
        return round(self._base.step_ps(*step) * factor)

    def host_ps(self, scheduled_requests: int) -> int:
        return self._base.host_ps(scheduled_requests)

    def decode_terms(self, decode_requests: int) -> tuple[int, int, int]:
        factor = self._factor(decode_requests, 0)
        base_ps, per_context_ps, per_spread_ps = self._base.decode_terms(decode_requests)
        return round(base_ps * factor), round(per_context_ps * factor), round(per_spread_ps * factor)


class _DecodeTimes:
    """Sums up, for each request, how long it decoded in steps of each kind."""

    def __init__(self, case: RunCase, step_time: StepTime) -> None:
        self._step_time = step_time
        self._prompts = [request.input_tokens for request in case.requests]
        self.seconds = np.zeros((len(case.requests), len(KINDS)))
        self.steps = np.zeros(len(case.requests))

    def observe(self, step: StepRecord) -> None:
        decodes: list[int] = []
        contexts: list[int] = []
        prefills: list[tuple[int, int]] = []
        for identifier, tokens, context in step.scheduled:
            request = request_id_of(identifier)
            if tokens == 1 and context >= self._prompts[request]:
                decodes.append(request)
                contexts.append(context)
            else:
                prefills.append((tokens, context))
        if not step.scheduled:
            return
        spread = len(contexts) * max(contexts, default=0) - sum(contexts)
        gpu_ps = self._step_time.step_ps(len(decodes), sum(contexts), prefills, spread)
        length_ps = max(gpu_ps, self._step_time.host_ps(len(step.scheduled)))
        self.seconds[decodes, kind_of(sum(tokens for tokens, _ in prefills))] += length_ps / PS_PER_S
        self.steps[decodes] += 1


def step_factors(case: RunCase) -> tuple[float, ...]:
    """Factors by kind of step that make the decodes of a case last as long as measured, by least squares.

    Requests that were preempted are left out: their decode has holes.
    """
    step_time = case.deployment.plan.step_time.step_time
    times = _DecodeTimes(case, step_time)
    replayed = _replay(case, case.deployment.plan, observer=times.observe)
    answers = np.array([request.output_tokens for request in case.requests])
    whole = (replayed.requests["preemptions"].to_numpy(float) == 0) & (
        np.abs(times.steps - (answers - 1)) < 2
    )
    measured_s: NDArray[np.float64] = case.measured["tpot_ms"].to_numpy(float) * (answers - 1) / 1e3
    usable = whole & np.isfinite(measured_s)
    factors, _ = nnls(times.seconds[usable], measured_s[usable])
    seen = times.seconds[usable].sum(axis=0) > 0
    return tuple(float(factor) if known else 1.0 for factor, known in zip(factors, seen, strict=True))


def _replay(case: RunCase, plan: ReplicaPlan, **changes: Any) -> Replayed:
    return replay(plan, case.requests, prefix_block_tokens=case.prefix_block_tokens, **changes)


def residual(case: RunCase) -> dict[str, Any]:
    """Errors of a case with one thing changed at a time."""
    plan = case.deployment.plan
    base = _replay(case, plan)
    rows: list[dict[str, Any]] = []

    def add(kind: str, what: str, requests: pd.DataFrame) -> None:
        rows.append({"kind": kind, "what": what, **_errors(case, requests)})

    add("as predicted", "nothing", base.requests)
    for what, changed in _assumptions(case):
        add("assumption", what, _replay(case, changed).requests)
    add(
        "assumption",
        "prompts share no prefix",
        replay(plan, [replace(request, block_ids=()) for request in case.requests]).requests,
    )
    for what, run in _true_inputs(case):
        add("true input", what, run().requests)
    figures: dict[str, Any] = {"case": case.name, "rows": rows}
    if "first_token_s" in case.measured and plan.engine.async_scheduling:
        figures["decode_steps"] = summary(decode_steps(case), "decodes", DECODE_BINS)
        with_prompts = steps_with_prompts(case, base.requests["cached_tokens"])
        figures["prompt_steps"] = summary(with_prompts, "step_tokens", BINS)
        sized = FactoredStepTime(
            plan.step_time.step_time, by_size(figures["decode_steps"], figures["prompt_steps"])
        )
        add(
            "true input",
            "step times with the factors of single steps of that size, below",
            _replay(case, plan, skipping=False, step_time=sized).requests,
        )
    for what, requests in _true_results(case, base.requests):
        add("true result", what, requests)
    return figures


def _errors(case: RunCase, requests: pd.DataFrame) -> Figures:
    figures = compare(requests, case.measured)
    errors: Figures = {metric: figures[metric]["mape_pct"] for metric in METRICS if metric in figures}
    unqueued = case.groups.get("unqueued")
    if unqueued is not None and unqueued.any():
        mask = unqueued.to_numpy(bool)
        found = compare(requests[mask], case.measured[mask]).get("ttft_ms")
        if found is not None:
            errors["unqueued_ttft_median"] = found["median_ape_pct"]
    errors["mean_error_pct"] = {
        metric: figures[metric]["mean"]["error_pct"] for metric in METRICS if metric in figures
    }
    return errors


def _assumptions(case: RunCase) -> list[tuple[str, ReplicaPlan]]:
    plan = case.deployment.plan
    profile = plan.step_time.frontend
    no_front_end = replace(plan, frontend_in_ps=0, frontend_in_ps_per_token=0, frontend_out_ps=0)
    a_server = replace(
        plan,
        frontend_in_ps=round(profile.request_us * 1e6),
        frontend_in_ps_per_token=round(profile.per_prompt_token_us * 1e6),
        frontend_out_ps=round(profile.response_us * 1e6),
    )
    rows = [("no time in the front end", no_front_end), ("the profile's front end, a server's", a_server)]
    derived = num_kv_blocks(
        plan.gpu,
        plan.model.shape,
        dtype=plan.dtype,
        tp=plan.gpus,
        gpu_memory_utilization=plan.gpu_memory_used_bytes / plan.gpu.memory_bytes,
        block_size=plan.engine.block_size,
        max_num_batched_tokens=plan.engine.max_num_batched_tokens,
        max_num_seqs=plan.engine.max_num_seqs,
        count_cuda_graphs=plan.engine.rules.counts_cuda_graphs,
    )
    given = plan.engine.num_gpu_blocks
    for what, blocks in (
        (f"KV blocks derived from GPU memory: {derived} in place of {given}", derived),
        (f"KV blocks 5 % more: {round(1.05 * given)}", round(1.05 * given)),
    ):
        if blocks != given:
            rows.append((what, replace(plan, engine=replace(plan.engine, num_gpu_blocks=blocks))))
    synchronous = replace(plan.engine, async_scheduling=not plan.engine.async_scheduling)
    rows.append(
        (
            "without async scheduling" if plan.engine.async_scheduling else "with async scheduling",
            replace(plan, engine=synchronous),
        )
    )
    return rows


def _true_inputs(case: RunCase) -> list[tuple[str, Callable[[], Replayed]]]:
    plan = case.deployment.plan
    times = plan.step_time.step_time
    rows: list[tuple[str, Callable[[], Replayed]]] = []
    planned = case.planned_arrival_s
    if planned is not None:
        rows.append(("arrivals as planned, not as measured", lambda: _replay_at(case, planned)))
    measured = case.measured
    if "first_token_s" in measured:
        first = int(measured["scheduled_s"].to_numpy(float).argmin())
        first_ps = to_ps(float(measured["first_token_s"][first] - measured["scheduled_s"][first]))
        gpu_ps = first_ps - times.host_ps(1)  # on an idle GPU nothing overlaps
        rows.append(
            (
                f"the first step's true time, {first_ps / 1e9:.0f} ms",
                lambda: _replay(
                    case, plan, skipping=False, step_time=FactoredStepTime(times, first_ps=gpu_ps)
                ),
            )
        )
    factors = step_factors(case)
    text = ", ".join(f"{kind} x {factor:.3f}" for kind, factor in zip(KINDS, factors, strict=True))
    rows.append(
        (
            f"step times with factors from this run: {text}",
            lambda: _replay(case, plan, skipping=False, step_time=FactoredStepTime(times, by_kind(factors))),
        )
    )
    return rows


def _replay_at(case: RunCase, arrivals_s: pd.Series) -> Replayed:
    requests = [
        replace(request, arrival_s=float(at_s))
        for request, at_s in zip(case.requests, arrivals_s, strict=True)
    ]
    return replay(case.deployment.plan, requests, prefix_block_tokens=case.prefix_block_tokens)


def _true_results(case: RunCase, predicted: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    measured = case.measured
    rows = []
    decode_ms = predicted["e2e_ms"] - predicted["ttft_ms"]
    if "scheduled_s" in measured:
        waited_ms = (measured["scheduled_s"] - measured["arrival_s"]) * 1e3
        prefill_ms = predicted["ttft_ms"] - (predicted["scheduled_s"] - predicted["arrival_s"]) * 1e3
        admitted = predicted.assign(ttft_ms=waited_ms + prefill_ms, e2e_ms=waited_ms + prefill_ms + decode_ms)
        rows.append(("true admission times, predicted prefill and decode", admitted))
    rows.append(
        (
            "true TTFT, predicted decode",
            predicted.assign(ttft_ms=measured["ttft_ms"], e2e_ms=measured["ttft_ms"] + decode_ms),
        )
    )
    true_decode_ms = measured["e2e_ms"] - measured["ttft_ms"]
    rows.append(
        (
            "true TPOT, predicted TTFT",
            predicted.assign(tpot_ms=measured["tpot_ms"], e2e_ms=predicted["ttft_ms"] + true_decode_ms),
        )
    )
    return rows


def text(figures: dict[str, Any]) -> str:
    """The rows for the console."""
    lines = [f"{figures['case']}: MAPE, %", f"{'TTFT':>8}{'TPOT':>8}{'E2E':>8}{'unqueued':>10}  swapped in"]
    for row in figures["rows"]:
        cells = "".join(f"{row[metric]:>8.2f}" if metric in row else f"{'':8}" for metric in METRICS)
        unqueued = row.get("unqueued_ttft_median")
        cells += f"{'':10}" if unqueued is None else f"{unqueued:>10.2f}"
        lines.append(f"{cells}  {row['kind']}: {row['what']}")
    for key, column in (("decode_steps", "decodes"), ("prompt_steps", "step_tokens")):
        lines += [
            f"{step['steps']:>5} steps with {step[column]} {column.replace('_', ' ')}: {step['profile_ms']:.2f} ms by "
            f"the profile, measured {step['measured_less_profile_ms']:+.2f} ms (x {step['measured_per_profile']:.3f})"
            for step in figures.get(key, [])
        ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 where there is no such case."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.residual", description=(__doc__ or "").split("\n")[0]
    )
    shared = os.environ.get("LLM_SIM_SHARED")
    parser.add_argument("--case", required=True)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(shared) / "data" if shared else None,
        help="folder of measured runs; default: data in LLM_SIM_SHARED",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write the figures")
    args = parser.parse_args(arguments)
    if args.data is None:
        parser.error("--data: say where the measured runs are, or set LLM_SIM_SHARED")
    known = vllm_runs.names(args.data)
    if args.case not in known:
        print(
            f"error: no case {args.case!r} in {args.data}; there are {', '.join(known) or 'none'}",
            file=sys.stderr,
        )
        return 2
    figures = residual(vllm_runs.load(args.data, args.case))
    write_results(args.out, args.case, figures, RESIDUAL)
    print(text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
