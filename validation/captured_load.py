"""A load that a capture holds (`calibration.capture_format`), as `validation.single_replica` replays it.

The replica has the captured engine's own settings, KV blocks and CUDA-graph sizes, and a profile's step times and
front end; it gets the requests at the times at which the client sent them. What a client saw is compared: TTFT and
E2E from sending, TPOT between the first and the last token.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from calibration.capture_format import Capture, CapturedEngine, CaptureError
from simulator.catalog import CatalogError, Model, find_gpu
from simulator.engines.vllm.config import EngineConfig
from simulator.step_time import (
    ProfileStepTime,
    ResolvedStepTime,
    StepTimeProfile,
    best_shipped,
    roofline_profile,
)
from simulator.units import PS_PER_US
from validation.real_trace import engine_config
from validation.requests import RecordedRequest


@dataclass(frozen=True)
class CapturedReplica:
    """A captured engine as a `ReplicaModel`."""

    engine: EngineConfig
    step_time: ResolvedStepTime
    frontend_in_ps: int
    frontend_in_ps_per_token: int
    frontend_out_ps: int


def captured_replica(
    capture: Capture, engine: int, profile: StepTimeProfile | None = None
) -> CapturedReplica:
    """An engine of a capture.

    Args:
        capture: what was run.
        engine: position among its engines.
        profile: step times and front end; the best that there is for its GPU if None.

    Raises:
        CaptureError: settings that our engine refuses, or a machine of which no step times are known.
    """
    facts = capture.manifest.engines[engine]
    config = engine_config(capture, engine)
    chosen = profile or _profile(capture, facts)
    step_time = ProfileStepTime(
        chosen,
        enforce_eager=not facts.cudagraph_sizes,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        capture_sizes=facts.cudagraph_sizes or None,
    )
    front = chosen.front_end
    return CapturedReplica(
        config,
        ResolvedStepTime(step_time, chosen, "given" if profile else "the best for the captured engine"),
        round(front.request_us * PS_PER_US),
        round(front.per_prompt_token_us * PS_PER_US),
        round(front.response_us * PS_PER_US),
    )


def _profile(capture: Capture, engine: CapturedEngine) -> StepTimeProfile:
    gpu = capture.manifest.gpu
    model = Model(name=engine.model, shape=engine.shape, source=f"capture {capture.folder.name}")
    dtype = engine.quantisation or engine.dtype
    try:
        if engine.pp > 1:
            raise CatalogError(f"pipeline-parallel size {engine.pp} is not modelled")
        found = best_shipped(gpu, model, engine.tp, dtype, engine.kv_cache_dtype)
        if found is not None:
            return found
        return roofline_profile(
            find_gpu(gpu), model, dtype=dtype, kv_cache_dtype=engine.kv_cache_dtype, tp=engine.tp
        )
    except CatalogError as error:
        raise CaptureError(f"{capture.folder}: engine {engine.name}: {error}") from None


def load_rows(capture: Capture, stage: int) -> pd.DataFrame:
    """A stage's requests that got a token, in the capture's order; the index counts from 0."""
    rows: pd.DataFrame = capture.requests.to_pandas()
    return rows[(rows["stage"] == stage) & (rows["output_tokens"] > 0)].reset_index(drop=True)


def recorded_requests(rows: pd.DataFrame) -> list[RecordedRequest]:
    """The rows as requests to be replayed, counted from the first arrival."""
    start_us = rows["submitted_us"].min()
    priorities = rows["priority"].fillna(0).astype(int)
    return [
        RecordedRequest(
            float(row["submitted_us"] - start_us) / 1e6,
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            segments=tuple(
                (int(content), int(end))
                for content, end in zip(row["segment_ids"], row["segment_ends"], strict=True)
            ),
            priority=int(priority),
        )
        for row, priority in zip(rows.to_dict("records"), priorities, strict=True)
    ]


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """What was measured of the rows: arrival_s, ttft_ms, tpot_ms, e2e_ms (client), queue_ms and scheduled_s (engine).

    Requests that were aborted or cut are load and nothing else: of them the arrival alone is known.
    """
    start_us = rows["submitted_us"].min()
    sent, first, last, queued, scheduled = (
        rows[name].astype(float)
        for name in ("submitted_us", "first_token_us", "last_token_us", "queued_us", "scheduled_us")
    )
    steps = (rows["output_tokens"] - 1).where(rows["output_tokens"] > 1)
    times = pd.DataFrame(
        {
            "ttft_ms": (first - sent) / 1e3,
            "tpot_ms": (last - first) / steps / 1e3,
            "e2e_ms": (last - sent) / 1e3,
            "queue_ms": (scheduled - queued) / 1e3,
            "scheduled_s": (scheduled - start_us) / 1e6,
        }
    ).where(rows["status"] == "finished")
    times.insert(0, "arrival_s", (sent - start_us) / 1e6)
    return times
