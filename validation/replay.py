"""Replay a benchmark in the simulator, request by request.

    python -m validation.replay --requests FILE --engine CONFIG.yaml --profile PROFILE --out predictions.csv

FILE is a CSV with ``arrival_s,input_tokens,output_tokens`` (and ``prefix_block_ids``), what ``vllm bench serve
--save-result --save-detailed`` wrote, or guidellm's JSON report. Where it holds measured times, the comparison is
printed too.

predictions.csv has the file's columns and, in the file's order, ``ttft_ms,tpot_ms,e2e_ms`` as the client sees them,
``queue_ms`` from the engine's input queue to the first step, and ``preemptions``. A cell is empty where there is
nothing to say: TPOT of one token, times of a request that was refused. Columns of those names that the file has
already are kept as ``measured_...``.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from simulator.files import write_text
from simulator.scenario.errors import ScenarioError
from validation.comparison import compare, table, throughput
from validation.deployment import WITHOUT_PROFILE, Deployment, load_deployment
from validation.requests import Measured, RequestFile, RequestsError, read_requests
from validation.single_replica import Replayed, replay

_UNSAMPLED_S: Final = 86_400.0
"""The timeline is not written here."""

PREDICTED: Final = ("ttft_ms", "tpot_ms", "e2e_ms", "queue_ms", "preemptions")


def predictions(file: RequestFile, replayed: Replayed) -> list[dict[str, object]]:
    """What was predicted of each row of a file, in its order; empty for rows that are not replayed."""
    columns = {name: replayed.requests[name].tolist() for name in PREDICTED}
    rows = iter(range(len(replayed.requests)))
    return [
        {}
        if request is None
        else {name: columns[name][index] for index in (next(rows),) for name in PREDICTED}
        for request in file.requests
    ]


def measured_frame(file: RequestFile) -> pd.DataFrame:
    """What the file tells of the requests that are replayed, row by row."""
    given = [request for request in file.requests if request is not None]
    frame = pd.DataFrame(
        [vars(request.measured) for request in given], columns=list(vars(Measured())), dtype=float
    )
    arrivals = np.array([request.arrival_s for request in given])
    frame.insert(0, "arrival_s", arrivals - arrivals.min())
    return frame


def write_predictions(path: Path, file: RequestFile, replayed: Replayed) -> None:
    """Write predictions.csv; it appears whole or not at all."""
    header = [f"measured_{name}" if name in PREDICTED else name for name in file.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, *PREDICTED])
    for cells, row in zip(file.cells, predictions(file, replayed), strict=True):
        writer.writerow([*cells, *(_cell(row.get(name)) for name in PREDICTED)])
    write_text(path, out.getvalue())


def _cell(value: object) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else f"{value:.6f}"


def report(file: RequestFile, deployment: Deployment, replayed: Replayed) -> str:
    """What the command prints."""
    plan = deployment.plan
    trust = plan.step_time
    lines = [
        f"{file.path}: {file.kind}, {len(file.requests)} requests",
        f"{plan.model.name} on {plan.gpus} x {plan.gpu.id}, vLLM {plan.engine.vllm_version}; "
        f"{plan.engine.num_gpu_blocks - 1} usable KV blocks of {plan.engine.block_size} tokens "
        f"({plan.kv_blocks_from}); "
        f"max_num_seqs {plan.engine.max_num_seqs}, max_num_batched_tokens {plan.engine.max_num_batched_tokens}, "
        f"max_model_len {plan.engine.max_model_len}",
        f"step times: {trust.profile.name}, {trust.source}; {trust.known_error}",
    ]
    lines += [f"note: {note}" for note in (*file.notes, *deployment.notes)]
    if file.model is not None and file.model.casefold() != plan.model.name.casefold():
        lines.append(f"note: the benchmark was of {file.model}")
    outside = ", ".join(f"{kind} {count}" for kind, count in replayed.out_of_range.items())
    if outside:
        lines.append(f"note: of {replayed.steps} steps outside the range of the profile: {outside}")
    lines += _refusals(file, replayed)
    given = [request for request in file.requests if request is not None]
    figures = throughput(replayed.requests, [request.output_tokens for request in given])
    if figures:
        lines.append(
            f"predicted: makespan {figures['makespan_s']:.2f} s, {figures['requests_per_s']:.3f} requests/s, "
            f"{figures['output_tokens_per_s']:.1f} output tokens/s, "
            f"{int(replayed.requests['preemptions'].sum())} preemptions"
        )
    if file.has_measurements:
        measured = measured_frame(file)
        real = throughput(measured, [request.output_tokens for request in given])
        if real:
            lines.append(
                f"measured:  makespan {real['makespan_s']:.2f} s, {real['requests_per_s']:.3f} requests/s, "
                f"{real['output_tokens_per_s']:.1f} output tokens/s"
            )
        lines += ["", table(compare(replayed.requests, measured))]
    return "\n".join(lines)


def _refusals(file: RequestFile, replayed: Replayed) -> list[str]:
    """Requests that got no answer, by cause, with the first row of each."""
    rows = [row for row, request in enumerate(file.requests, start=1) if request is not None]
    found: dict[str, list[int]] = {}
    for row, outcome, cause in zip(
        rows, replayed.requests["outcome"], replayed.requests["cause"], strict=True
    ):
        if outcome != "completed":
            found.setdefault(f"{outcome} {cause}".strip(), []).append(row)
    return [
        f"note: {len(where)} requests end {reason}, the first in row {where[0]}: no times are predicted for them"
        for reason, where in found.items()
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m validation.replay", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--requests", type=Path, required=True, metavar="FILE", help="requests to replay")
    parser.add_argument(
        "--engine", type=Path, required=True, metavar="CONFIG.yaml", help="a `vllm serve --config` file"
    )
    parser.add_argument(
        "--profile", required=True, help="step times: a profile's path or name, auto, or roofline"
    )
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--prefix-block-tokens", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument("--gpu", help=f"GPU id; needed with --profile {' or '.join(WITHOUT_PROFILE)}")
    parser.add_argument("--model", help="model name or config.json, if the configuration does not name it")
    parser.add_argument("--tp", type=int, help="tensor-parallel degree, if the configuration does not say it")
    parser.add_argument("--vllm-version", default="0.32", help="release that served; default 0.32")
    parser.add_argument("--frontend-in", type=float, metavar="S", help="seconds from the send to the engine")
    parser.add_argument("--frontend-out", type=float, metavar="S", help="seconds from a step to the client")
    parser.add_argument("--benchmark", type=int, metavar="N", help="which benchmark of a report, from 0")
    parser.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="closed loop: most requests in flight; arrivals follow ends",
    )
    parser.add_argument(
        "--engine-impl", choices=["skipping", "plain"], default="skipping", help="results are the same"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 for bad input."""
    parser = _parser()
    args = parser.parse_args(arguments)
    for name in ("prefix_block_tokens", "tp", "concurrency"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')}: must be at least 1, not {value}")
    try:
        file = read_requests(
            args.requests, prefix_block_tokens=args.prefix_block_tokens, benchmark=args.benchmark
        )
        given = [request for request in file.requests if request is not None]
        deployment = load_deployment(
            args.engine,
            args.profile,
            gpu=args.gpu,
            model=args.model,
            tp=args.tp,
            vllm_version=args.vllm_version,
            frontend_in_s=args.frontend_in,
            frontend_out_s=args.frontend_out,
            longest_request_tokens=max(request.input_tokens + request.output_tokens for request in given),
        )
        replayed = replay(
            deployment.plan,
            given,
            prefix_block_tokens=args.prefix_block_tokens,
            concurrency=args.concurrency,
            sample_s=_UNSAMPLED_S,
            skipping=args.engine_impl == "skipping",
        )
        write_predictions(args.out, file, replayed)
    except (RequestsError, ScenarioError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {args.out}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(report(file, deployment, replayed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
