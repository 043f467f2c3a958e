"""Random engine configurations and workloads on which two schedulers can be compared.

A schedule is a configuration, a linear step time, requests with their arrival times, and aborts. Everything
is drawn from one seed and is plain data, so that it can be stored beside the decisions that it led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from simulator.engines.protocol import EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.units import PS_PER_MS, PS_PER_US


@dataclass(frozen=True)
class LinearStepTime:
    """A step time that is linear in tokens and contexts; implements `simulator.engines.protocol.StepTime`."""

    base_ps: int
    per_token_ps: int
    per_context_token_ps: int
    host_base_ps: int

    def step_ps(
        self, decode_requests: int, decode_context_tokens: int, prefills: Sequence[tuple[int, int]]
    ) -> int:
        tokens = decode_requests + sum(n for n, _ in prefills)
        context = decode_context_tokens + sum(c for _, c in prefills)
        return self.base_ps + self.per_token_ps * tokens + self.per_context_token_ps * context

    def host_ps(self, scheduled_requests: int) -> int:
        return self.host_base_ps

    def decode_terms(self, decode_requests: int) -> tuple[int, int]:
        return self.base_ps + self.per_token_ps * decode_requests, self.per_context_token_ps


@dataclass(frozen=True)
class Schedule:
    """One case of the comparison.

    Attributes:
        arrivals: (time in ps, request), in order of time.
        aborts: (time in ps, request id), in order of time; of a request that has ended, it does nothing.
    """

    config: EngineConfig
    step_time: LinearStepTime
    arrivals: list[tuple[int, EngineRequest]]
    aborts: list[tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "step_time": asdict(self.step_time),
            "arrivals": [[t, list(asdict(r).values())] for t, r in self.arrivals],
            "aborts": [list(abort) for abort in self.aborts],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Schedule:
        arrivals = []
        for t, values in data["arrivals"]:
            request = EngineRequest(*values)
            segments = tuple((content, end) for content, end in request.segments)
            arrivals.append((t, replace(request, segments=segments)))
        return Schedule(
            config=EngineConfig(**data["config"]),
            step_time=LinearStepTime(**data["step_time"]),
            arrivals=arrivals,
            aborts=[(t, request_id) for t, request_id in data["aborts"]],
        )


def draw_schedule(seed: int, max_requests: int = 60) -> Schedule:
    """A random schedule in which every request can finish."""
    rng = Random(seed)
    block_size = rng.choice([1, 2, 4, 8, 16, 16, 32])
    max_prompt = rng.choice([8, 40, 150, 400])
    max_output = rng.choice([1, 6, 30, 120])
    step_ms = rng.choice([1, 5, 20])
    requests = _draw_requests(rng, rng.randint(3, max_requests), max_prompt, max_output)
    longest = max(r.prompt_tokens + min(r.output_tokens, r.max_tokens) for r in requests)
    max_model_len = max(r.prompt_tokens + r.max_tokens for r in requests) + rng.choice([0, 1, 50])
    chunked = rng.random() < 0.8
    max_num_seqs = rng.choice([1, 2, 4, 8, 32, 64])
    budget = rng.choice([8, 32, 64, 256, 512])
    if not chunked:
        budget = max(budget, max_model_len)
    fits = -(-longest // block_size) + 1
    config = EngineConfig(
        num_gpu_blocks=1 + max(fits, round(fits * rng.choice([1.0, 1.0, 1.2, 1.5, 2.0, 3.0, 8.0]))),
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_active_seqs=rng.randint(1, max_num_seqs) if rng.random() < 0.1 else None,
        max_num_batched_tokens=max(budget, max_num_seqs),
        block_size=block_size,
        enable_prefix_caching=rng.random() < 0.6,
        enable_chunked_prefill=chunked,
        async_scheduling=rng.random() < 0.6,
        policy="priority" if rng.random() < 0.25 else "fcfs",
        scheduler_reserve_full_isl=rng.random() < 0.75,
        watermark=rng.choice([0.0, 0.0, 0.0, 0.05, 0.2]),
        long_prefill_token_threshold=min(rng.choice([0, 0, 0, 4, 16, 100]), max_model_len),
        long_prefill_token_threshold_adaptive=rng.random() < 0.2,
    )
    if rng.random() < 0.3:  # steps that end on a grid on which requests arrive too
        step_time = LinearStepTime(step_ms * PS_PER_MS, 0, 0, 0)
        tick = step_ms * PS_PER_MS
    else:
        step_time = LinearStepTime(
            base_ps=step_ms * PS_PER_MS,
            per_token_ps=rng.randrange(0, 50) * PS_PER_US,
            per_context_token_ps=rng.randrange(0, 2000) * 1000,
            host_base_ps=rng.choice([0, step_ms * PS_PER_MS // 10, step_ms * PS_PER_MS * 2]),
        )
        tick = 1
    gap_ps = rng.choice([0.0, 0.5, 2.0, 8.0, 60.0]) * step_ms * PS_PER_MS
    now = 0
    arrivals = []
    aborts = []
    abort_share = rng.choice([0.0, 0.0, 0.15, 0.5])
    for request in requests:
        now += round(rng.expovariate(1.0) * gap_ps / tick) * tick
        arrivals.append((now, request))
        if rng.random() < abort_share:
            after = round(rng.expovariate(1.0) * 10 * step_ms * PS_PER_MS / tick) * tick
            aborts.append((now + after, request.request_id))
    return Schedule(config, step_time, arrivals, sorted(aborts))


def _draw_requests(rng: Random, count: int, max_prompt: int, max_output: int) -> list[EngineRequest]:
    groups = rng.choice([0, 1, 2, 5])
    stops_early = rng.choice([0.0, 0.3, 1.0])
    requests: list[EngineRequest] = []
    for request_id in range(count):
        prompt = rng.randint(1, max_prompt)
        max_tokens = rng.randint(1, max_output)
        output = rng.randint(1, max_tokens) if rng.random() < stops_early else max_tokens
        segments: tuple[tuple[int, int], ...] = ()
        if groups and rng.random() < 0.8:
            group = rng.randrange(groups)
            turn = rng.randint(0, max_prompt)
            earlier = [r for r in requests if r.segments and r.segments[-1][0] > 1000]
            if earlier and rng.random() < 0.3:  # the next turn of a conversation, or its repetition
                before = rng.choice(earlier)
                known = before.segments[-1][1]
                prompt = max(1, min(max_prompt, known + rng.randint(-3, 20)))
                segments = before.segments
            else:
                segments = ((group + 1, turn), (1001 + request_id, prompt + output + rng.randint(0, 8)))
            segments = tuple((content, end) for content, end in segments if end > 0)
            if len(segments) == 2 and segments[0][1] >= segments[1][1]:
                segments = segments[:1]
        requests.append(
            EngineRequest(
                request_id=request_id,
                prompt_tokens=prompt,
                output_tokens=output,
                max_tokens=max_tokens,
                priority=rng.randrange(3),
                workload=rng.randrange(2),
                segments=segments,
            )
        )
    return requests
