"""What surrounds the steps of a captured engine: host time, front end, start-up phases, KV blocks."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from calibration.capture_format import Capture, CapturedEngine
from calibration.capture_set import CaptureSet
from calibration.captured_steps import CapturedStep, Floats
from calibration.fitting import fit_huber, rounded
from simulator.step_time.assumed import FRONT_END
from simulator.step_time.profile import FrontEnd, HostTime, KvCacheRecord, StartUp

_FEWEST_REQUESTS: Final = 8


class HostModel:
    """Host time against scheduled requests, from medians of steps with as many.

    Args:
        steps: of synchronous engines.
    """

    def __init__(self, steps: Iterable[CapturedStep]) -> None:
        groups: dict[int, list[float]] = defaultdict(list)
        for step in steps:
            if step.host_us is not None:
                groups[step.scheduled].append(max(step.host_us, 1.0))
        self.scheduled: Floats = np.array(sorted(groups), dtype=float)
        self.median_us: Floats = np.array([np.median(groups[int(n)]) for n in self.scheduled])
        self.weight: Floats = np.array([min(len(groups[int(n)]), 100) for n in self.scheduled], dtype=float)
        self.steps = sum(len(group) for group in groups.values())

    def solve(self, resampling: Floats | None = None) -> tuple[float, float]:
        """(base, per request), us; neither below 0."""
        if not self.steps:
            raise ValueError("no step was followed at once by another: host time cannot be told")
        columns = np.column_stack([np.ones_like(self.scheduled), self.scheduled])
        weight = self.weight if resampling is None else self.weight * resampling
        (base, per_request), _ = fit_huber(columns, self.median_us, weight)
        return float(base), float(per_request)

    def host_time(self, preparation_us: float | None) -> HostTime:
        """The profile's part.

        Args:
            preparation_us: time of a synchronous step that asynchronous scheduling hides behind the GPU.
        """
        base, per_request = self.solve()
        source = (
            f"host: scheduling, output processing and the gap between steps, fitted on {self.steps} steps of a "
            "synchronous engine"
        )
        if preparation_us:
            source += (
                f"; {preparation_us:.0f} us of preparation taken from the step, as asynchronous steps show"
            )
        base_us, per_request_us = rounded([base + (preparation_us or 0.0), per_request])
        return HostTime(
            base_us=base_us,
            per_request_us=per_request_us,
            preparation_us=None if preparation_us is None else round(preparation_us, 1),
            source=source,
        )


def _requests(captures: Sequence[Capture], model: str) -> Iterator[tuple[Capture, dict[str, Any]]]:
    """Requests of fills and calibration stages."""
    for capture in captures:
        manifest = capture.manifest
        for row in capture.requests.to_pylist():
            purpose = manifest.stages[row["stage"]].purpose
            if manifest.engines[row["engine"]].model == model and purpose in ("calibration", "fill"):
                yield capture, row


def front_end(captures: CaptureSet) -> tuple[FrontEnd, str | None]:
    """Client time stamps against the engine's, and a note if they were not to be had.

    The way in is measured on requests that met an idle engine: a busy one takes its input between two steps, which
    the engine model does itself. Prompts are sent as token ids, so no tokenisation is in it.
    """
    busy = {id(capture): _busy(capture) for capture in captures.captures}
    way_in: dict[int, list[float]] = defaultdict(list)
    way_out: list[float] = []
    for capture, row in _requests(captures.captures, captures.engine.model):
        # Where the end alone was delivered, the last token tells as much.
        for which in ("first", "last"):
            at_client, at_engine = row[f"{which}_token_us"], row[f"engine_{which}_token_us"]
            if at_client is not None and at_engine is not None:
                way_out.append(at_client - at_engine)
                break
        if row["queued_us"] is None or row["queued_us"] < row["submitted_us"]:
            continue
        starts, ends = busy[id(capture)][row["engine"]]
        last = bisect_left(starts, row["queued_us"]) - 1
        if last < 0 or ends[last] < row["submitted_us"]:
            way_in[row["prompt_tokens"]].append(float(row["queued_us"] - row["submitted_us"]))
    count = sum(len(group) for group in way_in.values())
    if count < _FEWEST_REQUESTS or len(way_out) < _FEWEST_REQUESTS:
        return FRONT_END, FRONT_END.source
    prompts = np.array(sorted(way_in), dtype=float)
    medians = np.array([max(float(np.median(way_in[int(n)])), 1.0) for n in prompts])
    weight = np.array([len(way_in[int(n)]) for n in prompts], dtype=float)
    (base, per_token), _ = fit_huber(np.column_stack([np.ones_like(prompts), prompts]), medians, weight)
    request_us, per_prompt_token_us, response_us = rounded(
        [base, per_token, max(float(np.median(way_out)), 0.0)], 4
    )
    return (
        FrontEnd(
            request_us=request_us,
            per_prompt_token_us=per_prompt_token_us,
            response_us=response_us,
            source=f"front_end: client against engine time stamps of {count} requests at an idle engine and "
            f"{len(way_out)} deliveries; prompts as token ids, so without tokenisation and HTTP",
        ),
        None,
    )


def _busy(capture: Capture) -> dict[int, tuple[list[int], list[int]]]:
    """Starts and ends of each engine's steps, rising."""
    table = capture.steps.select(["engine", "schedule_us", "update_us"]).to_pylist()
    result: dict[int, tuple[list[int], list[int]]] = {
        engine: ([], []) for engine in range(len(capture.manifest.engines))
    }
    for row in sorted(table, key=lambda row: row["schedule_us"]):
        starts, ends = result[row["engine"]]
        starts.append(row["schedule_us"])
        ends.append(max(row["update_us"], ends[-1] if ends else 0))
    return result


def startups(captures: CaptureSet) -> list[StartUp] | None:
    """The first start of each kind (cold, warm, nothing to compile) of the model's engines."""
    found: dict[str, StartUp] = {}
    for capture in captures.captures:
        for engine in capture.manifest.engines:
            if engine.model == captures.engine.model and engine.startup:
                found.setdefault(
                    engine.compile_cache,
                    StartUp(
                        compile_cache=engine.compile_cache,
                        phases_s={p.phase: round(p.end_s - p.start_s, 3) for p in engine.startup},
                        ready_s=round(max(p.end_s for p in engine.startup), 3),
                    ),
                )
    return [found[kind] for kind in ("cold", "warm", "none") if kind in found] or None


def kv_cache_record(captures: CaptureSet) -> KvCacheRecord | None:
    """Blocks that an engine found by itself; None if all were told their number."""
    for capture in captures.captures:
        for engine in capture.manifest.engines:
            if engine.model == captures.engine.model and not _is_told_its_blocks(engine):
                return KvCacheRecord(
                    num_blocks=engine.num_gpu_blocks,
                    block_size=engine.block_size,
                    gpu_memory_utilization=engine.gpu_memory_utilization,
                    max_num_batched_tokens=engine.max_num_batched_tokens,
                    max_num_seqs=engine.max_num_seqs,
                    enforce_eager=engine.enforce_eager,
                    source=f"vLLM {capture.manifest.versions.get('vllm')}'s own report, engine {engine.name}",
                )
    return None


def _is_told_its_blocks(engine: CapturedEngine) -> bool:
    cache = engine.resolved.get("cache_config", engine.resolved)
    return cache.get("num_gpu_blocks_override") is not None
