"""Reads what ``vllm bench serve --save-result --save-detailed`` writes.

One object per benchmark (``vllm/benchmarks/serve.py`` of 0.32, ``benchmark`` and ``calculate_metrics``): lists with
one entry per request in the order in which they were made: ``input_lens``, ``output_lens`` (0 where it failed),
``ttfts`` and ``itls`` in seconds, ``errors``, and, in newer releases, ``start_times`` on the client's clock and
``latencies``. TTFT and TPOT count from the send of the request, as the client saw it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from validation.requests import (
    Measured,
    RecordedRequest,
    RequestFile,
    RequestsError,
    choose_benchmark,
    from_measurements,
)

_LISTS: Final = ("input_lens", "output_lens")


def matches(data: Any) -> bool:
    """Whether this is such a file (or several of them appended)."""
    runs = data if isinstance(data, list) else [data]
    return bool(runs) and all(
        isinstance(run, dict) and ("request_throughput" in run or "input_lens" in run) for run in runs
    )


def read(path: Path, data: Any, benchmark: int | None) -> RequestFile:
    """The requests of one benchmark.

    Raises:
        RequestsError: saved without ``--save-detailed``, without start times, or lists that do not go together.
    """
    runs = data if isinstance(data, list) else [data]
    names = [f"{run.get('date', 'undated')}, rate {run.get('request_rate', '?')}" for run in runs]
    run = runs[choose_benchmark(path, names, benchmark)]
    for name in _LISTS:
        if not isinstance(run.get(name), list):
            raise RequestsError(f"{path}: {name}: is missing: run `vllm bench serve` with --save-detailed")
    count = len(run["input_lens"])
    starts = _start_times(path, run, count)
    notes = []
    requests: list[RecordedRequest | None] = []
    for index in range(count):
        requests.append(_request(path, run, index, starts[index]))
    failed = requests.count(None)
    if failed:
        notes.append(f"{failed} requests failed in the benchmark and are not replayed")
    notes.append("prompts are not in the file: no prompts share a prefix")
    concurrency = run.get("max_concurrency")
    return from_measurements(
        path,
        "vllm bench serve",
        requests,
        notes,
        concurrency=int(concurrency) if concurrency else None,
        model=run.get("model_id"),
    )


def _start_times(path: Path, run: dict[str, Any], count: int) -> list[float]:
    starts = run.get("start_times")
    if isinstance(starts, list) and len(starts) == count:
        return [float(start) for start in starts]
    if run.get("request_rate") == "inf" and not run.get("max_concurrency"):
        return [0.0] * count  # all were sent at once
    raise RequestsError(
        f"{path}: start_times: is missing: this release of vLLM did not say when requests were sent; "
        "run the benchmark of a newer one"
    )


def _entry(run: dict[str, Any], name: str, index: int) -> Any:
    values = run.get(name)
    return values[index] if isinstance(values, list) and index < len(values) else None


def _request(path: Path, run: dict[str, Any], index: int, start_s: float) -> RecordedRequest | None:
    output_tokens = _entry(run, "output_lens", index)
    input_tokens = _entry(run, "input_lens", index)
    if not isinstance(input_tokens, int) or not isinstance(output_tokens, int):
        raise RequestsError(
            f"{path}: input_lens, output_lens: request {index}: expected whole numbers, "
            f"not {input_tokens!r} and {output_tokens!r}"
        )
    if _entry(run, "errors", index) or output_tokens < 1 or input_tokens < 1:
        return None
    ttft_s, itls_s = _entry(run, "ttfts", index), _entry(run, "itls", index)
    e2e_s = _entry(run, "latencies", index)
    if e2e_s is None and ttft_s is not None and isinstance(itls_s, list):
        e2e_s = ttft_s + math.fsum(itls_s)
    tpot_ms = None
    if ttft_s is not None and e2e_s is not None and output_tokens > 1:
        tpot_ms = (e2e_s - ttft_s) / (output_tokens - 1) * 1e3
    return RecordedRequest(
        start_s,
        input_tokens,
        output_tokens,
        measured=Measured(
            ttft_ms=None if ttft_s is None else ttft_s * 1e3,
            tpot_ms=tpot_ms,
            e2e_ms=None if e2e_s is None else e2e_s * 1e3,
        ),
    )
