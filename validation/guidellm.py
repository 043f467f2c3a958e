"""Reads guidellm's JSON report.

Forms, by what their objects have (packages 0.1 to 0.8 were read):

- 0.1: ``benchmarks[].benchmarks[]`` with ``results``: ``prompt_token_count``, ``output_token_count``, ``start_time``,
  ``first_token_time`` and ``end_time``.
- from 0.2: ``benchmarks[]`` with ``requests.successful``, ``incomplete`` and ``errored``: ``prompt_tokens``,
  ``output_tokens``, ``time_to_first_token_ms``, ``inter_token_latency_ms`` (without the first token, which is TPOT
  here), ``request_latency`` in seconds and the start as ``start_time`` (to 0.3) or ``request_start_time``.

Incomplete requests were cut when the benchmark's time was over. They loaded the server, so they are replayed with the
tokens that they had; they are not compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from validation.requests import (
    Measured,
    RecordedRequest,
    RequestFile,
    RequestsError,
    choose_benchmark,
    from_measurements,
)


def matches(data: Any) -> bool:
    """Whether this is a report of guidellm."""
    return isinstance(data, dict) and isinstance(data.get("benchmarks"), list)


def read(path: Path, data: dict[str, Any], benchmark: int | None) -> RequestFile:
    """The requests of one benchmark of a report.

    Raises:
        RequestsError: no such benchmark, or requests without lengths or times.
    """
    benchmarks: list[dict[str, Any]] = []
    for item in data["benchmarks"]:
        benchmarks += item.get("benchmarks", [item])
    chosen = benchmarks[choose_benchmark(path, [_name(item) for item in benchmarks], benchmark)]
    successful, incomplete, errored = _groups(path, chosen)
    requests: list[RecordedRequest | None] = [
        _request(path, item, f"successful.{index}") for index, item in enumerate(successful)
    ]
    cut = [_cut_request(item) for item in incomplete]
    requests += cut
    notes = ["prompts are not used: no prompts share a prefix"]
    if cut:
        notes.append(
            f"{len(cut)} requests were cut by the end of the benchmark: replayed with the tokens that they had, "
            "not compared"
        )
    if errored:
        notes.append(f"{errored} requests failed in the benchmark and are not replayed")
    strategy = _strategy(chosen)
    streams = strategy.get("streams") or strategy.get("max_concurrency")
    closed = strategy.get("type_") in ("concurrent", "synchronous")
    concurrency = 1 if strategy.get("type_") == "synchronous" else streams
    return from_measurements(
        path,
        "guidellm report",
        requests,
        notes,
        concurrency=int(concurrency) if closed and concurrency else None,
        model=_model(data, chosen),
    )


def _strategy(benchmark: dict[str, Any]) -> dict[str, Any]:
    for place in ("config", "args"):
        found = benchmark.get(place)
        strategy = found.get("strategy") if isinstance(found, dict) else None
        if isinstance(strategy, dict):
            return strategy
    return {}


def _model(data: dict[str, Any], benchmark: dict[str, Any]) -> str | None:
    worker = benchmark.get("worker")
    for place in (data.get("args"), worker, benchmark):
        if isinstance(place, dict):
            model = place.get("model") or place.get("backend_model")
            if isinstance(model, str):
                return model
    return None


def _name(benchmark: dict[str, Any]) -> str:
    strategy = _strategy(benchmark)
    kind = str(strategy.get("type_") or benchmark.get("mode") or "benchmark")
    rate = strategy.get("rate") or strategy.get("streams") or benchmark.get("rate")
    return kind if rate is None else f"{kind} {rate:g}" if isinstance(rate, int | float) else f"{kind} {rate}"


def _groups(path: Path, benchmark: dict[str, Any]) -> tuple[list[Any], list[Any], int]:
    """Requests that succeeded, those that were cut, and the number of those that failed."""
    if isinstance(benchmark.get("results"), list):
        return benchmark["results"], [], len(benchmark.get("errors") or [])
    groups = benchmark.get("requests")
    if not isinstance(groups, dict) or not isinstance(groups.get("successful"), list):
        raise RequestsError(
            f"{path}: requests: is missing from the benchmark: was the report saved without them?"
        )
    return groups["successful"], groups.get("incomplete") or [], len(groups.get("errored") or [])


def _first(item: dict[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _start_s(item: dict[str, Any]) -> float | None:
    start = _first(item, "request_start_time", "start_time")
    if start is None:
        info = item.get("info")
        timings = info.get("timings") if isinstance(info, dict) else None
        start = _first(timings, "request_start", "resolve_start") if isinstance(timings, dict) else None
    return None if start is None else float(start)


def _tokens(item: dict[str, Any]) -> tuple[Any, Any]:
    return _first(item, "prompt_tokens", "prompt_token_count"), _first(
        item, "output_tokens", "output_token_count"
    )


def _request(path: Path, item: dict[str, Any], key: str) -> RecordedRequest:
    start_s = _start_s(item)
    prompt, output = _tokens(item)
    if start_s is None or not prompt:
        lacking = "a start time" if start_s is None else "the number of prompt tokens"
        raise RequestsError(f"{path}: requests.{key}: lacks {lacking}")
    output_tokens = max(1, int(output or 0))
    first_s, end_s = item.get("first_token_time"), _first(item, "end_time", "request_end_time")
    ttft_ms = item.get("time_to_first_token_ms")
    if ttft_ms is None and first_s is not None:
        ttft_ms = (float(first_s) - start_s) * 1e3
    latency_s = item.get("request_latency")
    if latency_s is None and end_s is not None:
        latency_s = float(end_s) - start_s
    tpot_ms = item.get("inter_token_latency_ms")
    if tpot_ms is None and ttft_ms is not None and latency_s is not None:
        tpot_ms = (latency_s * 1e3 - ttft_ms) / max(1, output_tokens - 1)
    return RecordedRequest(
        start_s,
        int(prompt),
        output_tokens,
        measured=Measured(
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms if output_tokens > 1 else None,
            e2e_ms=None if latency_s is None else latency_s * 1e3,
        ),
    )


def _cut_request(item: dict[str, Any]) -> RecordedRequest | None:
    start_s = _start_s(item)
    prompt, output = _tokens(item)
    if start_s is None or not prompt:
        return None
    return RecordedRequest(start_s, int(prompt), max(1, int(output or 0)))
