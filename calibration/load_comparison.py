"""Validation loads of a capture against the same loads simulated with a fitted profile.

The simulated engine has the captured one's settings and KV blocks, and gets the same requests at the times at
which the client sent them. What a client sees is compared: TTFT and E2E from sending, TPOT between the first and
the last token. Loads that were captured several times say how much two runs of the same differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from calibration.capture_format import Capture, CapturedStage
from calibration.captured_steps import Floats
from simulator.engines.protocol import DeliveryKind
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.factory import make_engine
from simulator.step_time.profile import StepTimeProfile
from simulator.step_time.tables import ProfileStepTime
from simulator.units import PS_PER_US
from validation.real_trace import engine_config, engine_request

METRICS: Final = ("TTFT", "TPOT", "E2E")
STATISTICS: Final = ("mean", "p50", "p95")


@dataclass(frozen=True)
class Latencies:
    """What clients saw of the requests of a load that finished, ms; one entry each.

    Attributes:
        ttft_ms, e2e_ms: from sending to the first and the last token.
        tpot_ms: mean time between two tokens; NaN for a single one.
    """

    ttft_ms: Floats
    tpot_ms: Floats
    e2e_ms: Floats

    def statistic(self, metric: str, name: str) -> float:
        """Mean or a percentile (``p95``) of ``TTFT``, ``TPOT`` or ``E2E``, ms."""
        values = {"TTFT": self.ttft_ms, "TPOT": self.tpot_ms, "E2E": self.e2e_ms}[metric]
        return float(np.nanmean(values) if name == "mean" else np.nanpercentile(values, float(name[1:])))


def _latencies(rows: list[tuple[float, float, float, int]]) -> Latencies:
    """Of (sent, first token, last token, tokens), times in us."""
    sent, first, last, tokens = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    gaps = np.where(tokens > 1, tokens - 1, np.nan)
    return Latencies((first - sent) / 1e3, (last - first) / gaps / 1e3, (last - sent) / 1e3)


@dataclass(frozen=True)
class LoadRun:
    """One load: as captured, and as simulated.

    Attributes:
        out_of_range: simulated steps outside the profile's range.
    """

    stage: CapturedStage
    requests: int
    measured: Latencies
    simulated: Latencies
    out_of_range: int

    @property
    def load(self) -> str:
        """Name of the load, the same for all its repeats."""
        return self.stage.repeat_of or self.stage.name

    def error(self, metric: str, name: str) -> float:
        """Relative error of a simulated statistic."""
        return self.simulated.statistic(metric, name) / self.measured.statistic(metric, name) - 1.0


def compare_loads(capture: Capture, profile: StepTimeProfile) -> list[LoadRun]:
    """Every load of a capture that ran to its end, in order."""
    requests: dict[int, list[dict[str, Any]]] = {}
    for number, row in enumerate(capture.requests.to_pylist()):
        requests.setdefault(row["stage"], []).append({**row, "number": number})
    runs = []
    for position, stage in enumerate(capture.manifest.stages):
        if stage.kind == "load" and stage.status == "ok" and requests.get(position):
            rows = [row for row in requests[position] if row["status"] == "finished"]
            step_time, simulated = _simulated(capture, stage, profile, rows)
            measured = [
                (row["submitted_us"], row["first_token_us"], row["last_token_us"], row["output_tokens"])
                for row in rows
            ]
            outside = sum(step_time.range_violations.values())
            runs.append(LoadRun(stage, len(rows), _latencies(measured), simulated, outside))
    return runs


class _NoGaps:
    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        pass


def _simulated(
    capture: Capture, stage: CapturedStage, profile: StepTimeProfile, rows: list[dict[str, Any]]
) -> tuple[ProfileStepTime, Latencies]:
    engine = capture.manifest.engines[stage.engine]
    config: EngineConfig = engine_config(capture, stage.engine)
    step_time = ProfileStepTime(
        profile,
        enforce_eager=not engine.cudagraph_sizes,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        capture_sizes=engine.cudagraph_sizes or None,
    )
    model = make_engine(config, step_time, _NoGaps())
    front = profile.front_end
    arrivals = sorted(
        (
            row["submitted_us"] + front.request_us + front.per_prompt_token_us * row["prompt_tokens"],
            row["number"],
            row,
        )
        for row in rows
    )
    seen: dict[int, tuple[float, float, int]] = {}

    def advance(until_ps: int | None) -> None:
        while (at_ps := model.next_time()) is not None and (until_ps is None or at_ps < until_ps):
            for delivery in model.advance(at_ps):
                if delivery.kind == DeliveryKind.FINISHED:
                    assert delivery.detail is not None
                    first_us = delivery.detail.first_token_ps / PS_PER_US
                    last_us = delivery.time_ps / PS_PER_US
                    seen[delivery.request_id] = (first_us, last_us, delivery.detail.output_tokens)

    for at_us, number, row in arrivals:
        at_ps = round(at_us * PS_PER_US)
        advance(at_ps)
        refused = model.submit(engine_request(number, row), at_ps)
        assert refused is None, f"request {number}: the simulated engine refuses it: {refused}"
    advance(None)
    out_us = front.response_us
    return step_time, _latencies(
        [
            (
                row["submitted_us"],
                seen[row["number"]][0] + out_us,
                seen[row["number"]][1] + out_us,
                seen[row["number"]][2],
            )
            for row in rows
        ]
    )


def repeat_noise(runs: list[LoadRun], metric: str, name: str) -> dict[str, float]:
    """By load with repeats: largest difference between two captured runs of it, relative to their mean."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault(run.load, []).append(run.measured.statistic(metric, name))
    return {
        load: (max(values) - min(values)) / float(np.mean(values))
        for load, values in groups.items()
        if len(values) > 1
    }
