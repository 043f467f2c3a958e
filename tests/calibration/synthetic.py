"""Captures that our own plain engine makes under a known profile, with noise and outliers; deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calibration.capture_format import (
    DEVICE,
    REQUESTS,
    STEPS,
    CapturedEngine,
    CapturedStage,
    CaptureManifest,
    StartupPhase,
    write_capture,
)
from simulator.engines.protocol import DeliveryKind, EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.step_time import ProfileStepTime, StepTimeProfile
from simulator.step_time.tables import cudagraph_capture_sizes
from simulator.units import PS_PER_US

MAX_SEQS = 64
CONFIG = EngineConfig(
    num_gpu_blocks=6000,
    max_model_len=4096,
    max_num_seqs=MAX_SEQS,
    max_num_batched_tokens=512,
    block_size=16,
    async_scheduling=False,
)


def truth(**parts: Any) -> StepTimeProfile:
    """A made-up GPU whose terms follow the conventions of a fit, so that its coefficients can be compared."""
    chunks, slopes = [16, 64, 256, 512], [40.0, 40.0, 90.0, 180.0]
    launch = 150.0
    terms = {
        "dense": {
            "tokens": [1, 8, 16, 32, 64, 128, 256, 512],
            "us": [4000, 4050, 4100, 4200, 4500, 5200, 7600, 14000],
        },
        "per_sequence": {"sequences": [1, 101], "us": [0, 500]},
        "decode_attention": {
            "requests": [1, 8, 32],
            "base_us": [0, 0, 0],
            "per_context_token_ns": [60, 50, 45],
            "max_context_tokens": 2048,
            "heterogeneity": 1.04,
        },
        "prefill_attention": {
            "chunk_tokens": chunks,
            "base_us": [launch + slope * c / 2000 for c, slope in zip(chunks, slopes, strict=True)],
            "per_context_token_ns": slopes,
            "launch_us": launch,
            "max_context_tokens": 4096,
        },
        "mixed_attention": {
            "requests": [4, 32],
            "chunk_tokens": [16, 512],
            "base_us": [[0, 0], [0, 0]],
            "per_context_token_ns": [90, 70],
            "max_context_tokens": 4096,
        },
        "overhead_us": 0,
        "eager_floor_us": 0,
    }
    shape = {
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "intermediate": 128,
        "vocab": 100,
        "max_position_embeddings": 8192,
    }
    identity = {
        "gpu": "H200-SXM",
        "model": "made-up",
        "shape": shape,
        "dtype": "bfloat16",
        "kv_cache_dtype": "bfloat16",
        "tp": 1,
        "pp": 1,
        "engine_version": "0.32.0",
    }
    return StepTimeProfile.model_validate(
        {
            "name": "truth",
            "source": "fitted profile",
            "known_error": "none",
            "identity": identity,
            "terms": terms,
            "host": {"base_us": 400, "per_request_us": 5, "preparation_us": 100, "source": "made up"},
            "front_end": {
                "request_us": 300,
                "per_prompt_token_us": 0.5,
                "response_us": 200,
                "source": "made up",
            },
            "provenance": {},
            **parts,
        }
    )


@dataclass
class Noise:
    """Relative noise of each step, and steps that take much longer."""

    relative: float = 0.0
    outlier_share: float = 0.0
    outlier_us: float = 30_000.0
    seed: int = 1


@dataclass
class SyntheticCapture:
    """Builds one capture; `write` it when the stages are in."""

    profile: StepTimeProfile = field(default_factory=truth)
    noise: Noise = field(default_factory=Noise)
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the manifest."""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.noise.seed)
        self._steps: list[dict[str, Any]] = []
        self._scheduled_ps: list[int] = []
        self._requests: list[dict[str, Any]] = []
        self._stages: list[CapturedStage] = []
        self._engines: list[CapturedEngine] = []
        self._now_us = 0.0
        self._graphs = cudagraph_capture_sizes(MAX_SEQS)

    def engine(
        self, name: str = "sync", *, graphs: bool = True, quantisation: str | None = None, **settings: Any
    ) -> None:
        """Start the next engine; the stages that follow run on it."""
        config = replace(CONFIG, **settings)
        captured = self._graphs if graphs else []
        self._engines.append(
            CapturedEngine(
                name=name,
                model=self.profile.identity.model,
                shape=self.profile.identity.shape,
                dtype="bfloat16",
                kv_cache_dtype="auto",
                quantisation=quantisation,
                tp=1,
                pp=1,
                num_gpu_blocks=config.num_gpu_blocks,
                block_size=config.block_size,
                max_model_len=config.max_model_len,
                max_num_batched_tokens=config.max_num_batched_tokens,
                max_num_seqs=config.max_num_seqs,
                gpu_memory_utilization=0.9,
                enforce_eager=not graphs,
                async_scheduling=config.async_scheduling,
                enable_prefix_caching=config.enable_prefix_caching,
                scheduler={
                    key: value for key, value in asdict(config).items() if key in ("policy", "watermark")
                },
                cudagraph_sizes=captured,
                compile_cache="warm",
                startup=[
                    StartupPhase(phase="process", start_s=0, end_s=4),
                    StartupPhase(phase="weights", start_s=4, end_s=9.5),
                ],
                resolved={"cache_config": {"num_gpu_blocks_override": None}},
            )
        )
        step_time = ProfileStepTime(
            self.profile, enforce_eager=not graphs, max_num_seqs=MAX_SEQS, capture_sizes=captured or None
        )
        even = self.profile.terms.decode_attention.model_copy(update={"heterogeneity": 1.0})
        terms = self.profile.terms.model_copy(update={"decode_attention": even})
        self._config, self._step_time = config, step_time
        self._even_step_time = ProfileStepTime(
            self.profile.model_copy(update={"terms": terms}),
            enforce_eager=not graphs,
            max_num_seqs=MAX_SEQS,
            capture_sizes=captured or None,
        )
        self._number = 0
        self._plain = PlainEngine(config, step_time, _NoGaps(), self._observe)
        self._gpu_free_us = 0.0
        self._late_us = self._now_us  # of the capture's clock against the engine's
        self._engine_now_ps = 0
        self._finished: list[int] = []

    def stage(
        self,
        name: str,
        kind: str,
        purpose: str = "calibration",
        status: str = "ok",
        regime: str | None = None,
        repeat_of: str | None = None,
    ) -> None:
        """Start the next stage."""
        self._stages.append(
            CapturedStage(
                engine=len(self._engines) - 1,
                name=name,
                kind=kind,
                purpose=purpose,
                regime=regime,
                repeat_of=repeat_of,
                status=status,
                start_us=round(self._now_us),
                end_us=round(self._now_us),
                plan={},
            )
        )

    # --- what requests do -------------------------------------------------------------------------------

    def together(self, sends: Sequence[tuple[int, int, int]]) -> None:
        """Requests of (prompt tokens, output tokens, content id of the prompt; 0 is unique), until all end."""
        self._submit(sends)
        self._run()
        self._late_us += 2000.0  # idle for a while

    def beside(self, decodes: Sequence[tuple[int, int, int]], chunks: Sequence[tuple[int, int]]) -> None:
        """Chunks of (tokens, context), one after another, beside requests that decode."""
        self._submit(decodes)
        self._run(steps=4)
        for tokens, context in chunks:
            self._submit([(context + tokens, 1, -context)])
            self._run(steps=3)
        self._run()

    def load(self, gaps_us: Sequence[float], sends: Sequence[tuple[int, int, int]]) -> None:
        """Open-loop arrivals."""
        at_ps = self._engine_now_ps
        for gap_us, send in zip(gaps_us, sends, strict=True):
            at_ps += round(gap_us * PS_PER_US)
            while (next_ps := self._plain.next_time()) is not None and next_ps <= at_ps:
                self._advance(next_ps)
            self._engine_now_ps = at_ps
            self._submit([send], due=True)
        self._run()

    def _submit(self, sends: Sequence[tuple[int, int, int]], *, due: bool = False) -> None:
        front = self.profile.front_end
        for prompt, output, content in sends:
            number = len(self._requests)
            # A negative content: only the first -content tokens are of content 1.
            segments = ((1, -content),) if content < 0 else ((content, prompt),) if content else ()
            submitted = self._engine_now_ps / PS_PER_US + self._late_us
            way_in = front.request_us + front.per_prompt_token_us * prompt
            self._requests.append(
                {
                    "engine": len(self._engines) - 1,
                    "stage": len(self._stages) - 1,
                    "arrival_step": self._number,
                    "prompt_tokens": prompt,
                    "max_tokens": output,
                    "priority": 0,
                    "segment_ids": [content for content, _ in segments],
                    "segment_ends": [end for _, end in segments],
                    "due_us": round(submitted - way_in) if due else None,
                    "submitted_us": round(submitted - way_in),
                    "queued_us": round(submitted),
                    "scheduled_us": None,
                    "engine_first_token_us": None,
                    "engine_last_token_us": None,
                    "first_token_us": None,
                    "last_token_us": None,
                    "token_gaps_us": [],
                    "output_tokens": output,
                    "cached_tokens": None,
                    "status": "finished",
                }
            )
            assert (
                self._plain.submit(
                    EngineRequest(number, prompt, output, output, segments=segments), self._engine_now_ps
                )
                is None
            )

    def _run(self, steps: int | None = None) -> None:
        until = None if steps is None else self._number + steps
        while (next_ps := self._plain.next_time()) is not None and (until is None or self._number < until):
            self._advance(next_ps)

    def _advance(self, next_ps: int) -> None:
        known = len(self._steps)
        for delivery in self._plain.advance(next_ps):
            at = delivery.time_ps / PS_PER_US + self._late_us
            row = self._requests[delivery.request_id]
            if delivery.kind == DeliveryKind.FIRST_TOKEN:
                row["engine_first_token_us"] = round(at)
                row["first_token_us"] = round(at + self.profile.front_end.response_us)
            elif delivery.kind == DeliveryKind.FINISHED:
                # Seen by the first schedule from then on, which this very call may have made.
                later = [
                    place
                    for place in range(known, len(self._steps))
                    if self._scheduled_ps[place] >= delivery.time_ps
                ]
                seen_by = self._steps[later[0]]["finished"] if later else self._finished
                seen_by.append(delivery.request_id)
                row["engine_last_token_us"] = round(at)
                row["last_token_us"] = round(at + self.profile.front_end.response_us)
        self._engine_now_ps = next_ps
        self._now_us = next_ps / PS_PER_US + self._late_us

    # --- the trace --------------------------------------------------------------------------------------

    def _observe(self, record: StepRecord) -> None:
        if not record.scheduled:
            return
        prompts = [self._requests[i]["prompt_tokens"] for i, _, _ in record.scheduled]
        decoding = [
            n == 1 and context >= prompt - 1
            for (_, n, context), prompt in zip(record.scheduled, prompts, strict=True)
        ]
        contexts = [c for (_, _, c), d in zip(record.scheduled, decoding, strict=True) if d]
        prefills = [(n, c) for (_, n, c), d in zip(record.scheduled, decoding, strict=True) if not d]
        differ = bool(contexts) and float(np.std(contexts)) >= 0.1 * max(float(np.mean(contexts)), 1.0)
        host_us = self._step_time.host_ps(len(record.scheduled)) / PS_PER_US
        # The engine's clock runs with the factor for differing contexts always; the capture's only where they do.
        engine_us = self._step_time.step_ps(len(contexts), sum(contexts), prefills) / PS_PER_US
        exact = self._step_time if differ else self._even_step_time
        gpu_us = exact.step_ps(len(contexts), sum(contexts), prefills) / PS_PER_US
        preparation_us = self.profile.host.preparation_us or 0.0
        at = record.time_ps / PS_PER_US
        is_async = self._config.async_scheduling
        depth = int(is_async and at < self._gpu_free_us)
        noise = 1.0 + self.noise.relative * float(self._rng.standard_normal())
        late_us = (gpu_us + preparation_us) * noise - engine_us - preparation_us
        if self._rng.random() < self.noise.outlier_share:
            late_us += self.noise.outlier_us
        if depth:
            end = self._gpu_free_us + max(engine_us, host_us)
        else:
            end = at + engine_us + host_us
        self._gpu_free_us = end
        rest_us = 0.0 if is_async else host_us - preparation_us
        start = at + self._late_us
        launch = start + 0.3 * rest_us
        output = (end + self._late_us if is_async else launch + engine_us + preparation_us) + late_us
        self._late_us += late_us
        self._steps.append(
            {
                "engine": len(self._engines) - 1,
                "stage": len(self._stages) - 1,
                "step": self._number,
                "depth": depth,
                "schedule_us": round(start),
                "launch_us": round(launch),
                "output_us": round(output),
                "update_us": round(output + 0.3 * rest_us),
                "requests": [i for i, _, _ in record.scheduled],
                "tokens": [n for _, n, _ in record.scheduled],
                "context": [c for _, _, c in record.scheduled],
                "admitted": [i for i, _ in record.admitted],
                "preempted": record.preempted,
                "finished": sorted(self._finished),
                "running": record.running,
                "waiting": record.num_waiting,
                "free_blocks": record.num_free_blocks,
            }
        )
        self._scheduled_ps.append(record.time_ps)
        for number, _ in record.admitted:
            row = self._requests[number]
            row["scheduled_us"] = row["scheduled_us"] or round(start)  # a resumed request has been before
        self._finished = []
        self._number += 1

    def write(self, folder: Path) -> Path:
        """The capture on disk."""
        manifest = CaptureManifest.model_validate(
            {
                "plan": "synthetic",
                "created": "2026-01-01T00:00:00Z",
                "gpu": "H200-SXM",
                "device_name": "made up",
                "versions": {"vllm": "0.32.0", "torch": "2.11.0"},
                "host": {"cores": 2},
                "engines": self._engines,
                "stages": self._stages,
                **self.changes,
            }
        )
        write_capture(
            folder,
            manifest,
            pa.Table.from_pylist(self._steps, STEPS),
            pa.Table.from_pylist(self._requests, REQUESTS),
            DEVICE.empty_table(),
        )
        return folder


class _NoGaps:
    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        pass


BATCHES = (48, 32, 24, 16, 8, 4, 2, 1)
CONTEXTS = (1024, 512, 256, 64)


def sweep(
    capture: SyntheticCapture,
    *,
    contexts: Sequence[int] = CONTEXTS,
    batches: Sequence[int] = BATCHES,
    mixed: bool = True,
    skewed: bool = True,
    repeats: int = 3,
) -> None:
    """The calibration stages of a plan on the engine at hand."""
    steps = 2 * repeats
    capture.stage("chunks", "chunks")
    capture.together([(1040, 1, 1)])
    for context in (0, 256, 512, 1024):
        for _ in range(repeats):
            for size in (16, 32, 64, 128, 256, 384, 512):
                capture.together([(context + size, 1, -context)])
    capture.stage("multi", "multi")
    for _ in range(repeats):
        for count, size in ((2, 128), (4, 64), (8, 32), (2, 256), (16, 16), (32, 16), (4, 128)):
            capture.together([(size, 1, 0)] * count)
    for context in contexts:
        capture.stage(f"column-{context}-fill", "column", "fill")
        content = 10_000 * context
        capture.together([(context, 1, content + i) for i in range(batches[0])])
        capture.stage(f"column-{context}", "column")
        capture.together(
            [(context, 1 + steps * sum(b > i for b in batches), content + i) for i in range(batches[0])]
        )
    if mixed:
        capture.stage("mixed", "mixed")
        for decodes in (4, 8, 16, 32):
            for context in (128, 768):
                chunks = [
                    (size, behind)
                    for behind in (0, 512)
                    for _ in range(repeats)
                    for size in (16, 64, 256, 400)
                ]
                capture.beside([(context, 6 * len(chunks), 0)] * decodes, chunks)
    if skewed:
        capture.stage("skewed", "heterogeneous")
        for batch in (8, 16, 32):
            for kind in range(2):
                lengths = [
                    (1024 * i // batch + 16) if kind else (128 if i % 2 else 896) for i in range(batch)
                ]
                content = 50_000_000 + 1000 * (2 * batch + kind)
                for output in (1, 1 + steps):  # the first pass puts the prompts into the prefix cache
                    capture.together([(length, output, content + i) for i, length in enumerate(lengths)])


def load_of(count: int, seed: int = 5) -> tuple[list[float], list[tuple[int, int, int]]]:
    """Gaps and requests of a load."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(20_000.0, count).tolist()
    return gaps, [(int(rng.integers(20, 600)), int(rng.integers(2, 60)), 0) for _ in range(count)]
