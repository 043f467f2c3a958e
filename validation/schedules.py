"""Random engine configurations and workloads on which two schedulers can be compared.

A schedule is a configuration, a linear step time, requests with their arrival times, and aborts. Everything
is drawn from one seed and is plain data, so that it can be stored beside the decisions that it led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from random import Random
from typing import Any, Final

from simulator.draws import Draws
from simulator.engines.protocol import EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.rules import rules_of
from simulator.engines.vllm.speculation import Acceptance, DrawnAcceptance
from simulator.units import PS_PER_MS, PS_PER_US

_FIELDS: Final = tuple(field.name for field in fields(EngineRequest))


@dataclass(frozen=True)
class LinearStepTime:
    """A step time linear in tokens, contexts and spread; implements `simulator.engines.protocol.StepTime`."""

    base_ps: int
    per_token_ps: int
    per_context_token_ps: int
    host_base_ps: int
    per_spread_token_ps: int = 0

    def step_ps(
        self,
        decode_requests: int,
        decode_context_tokens: int,
        prefills: Sequence[tuple[int, int]],
        decode_spread_tokens: int = 0,
    ) -> int:
        tokens = decode_requests + sum(n for n, _ in prefills)
        context = decode_context_tokens + sum(c for _, c in prefills)
        spread_ps = self.per_spread_token_ps * decode_spread_tokens
        return self.base_ps + self.per_token_ps * tokens + self.per_context_token_ps * context + spread_ps

    def host_ps(self, scheduled_requests: int) -> int:
        return self.host_base_ps

    def decode_terms(self, decode_requests: int) -> tuple[int, int, int]:
        base_ps = self.base_ps + self.per_token_ps * decode_requests
        return base_ps, self.per_context_token_ps, self.per_spread_token_ps


@dataclass(frozen=True)
class Schedule:
    """One case of the comparison.

    Attributes:
        arrivals: (time in ps, request), in order of time.
        aborts: (time in ps, request id), in order of time; of a request that has ended, it does nothing.
        acceptance_rates: chance of each draft position to be accepted, if there are drafts.
    """

    config: EngineConfig
    step_time: LinearStepTime
    arrivals: list[tuple[int, EngineRequest]]
    aborts: list[tuple[int, int]]
    acceptance_rates: tuple[float, ...] = ()

    def make_acceptance(self) -> Acceptance | None:
        """How many drafts are accepted, the same for both sides; None without speculation."""
        return DrawnAcceptance(Draws(0), self.acceptance_rates) if self.acceptance_rates else None

    def to_json(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "step_time": asdict(self.step_time),
            "arrivals": [[t, list(asdict(r).values())] for t, r in self.arrivals],
            "aborts": [list(abort) for abort in self.aborts],
            "acceptance_rates": list(self.acceptance_rates),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Schedule:
        arrivals = []
        for t, values in data["arrivals"]:
            arrivals.append((t, _request_of(values)))
        return Schedule(
            config=EngineConfig(**data["config"]),
            step_time=LinearStepTime(**data["step_time"]),
            arrivals=arrivals,
            aborts=[(t, request_id) for t, request_id in data["aborts"]],
            acceptance_rates=tuple(data.get("acceptance_rates", ())),
        )


def _request_of(values: list[Any]) -> EngineRequest:
    """A request from its fields in order, as JSON gives them back."""
    known = dict(zip(_FIELDS, values, strict=True))
    return EngineRequest(**known | {"segments": tuple((content, end) for content, end in known["segments"])})


def draw_schedule(seed: int, max_requests: int = 60, version: str = "0.32") -> Schedule:
    """A random schedule in which every request can finish.

    The draw is biased towards what is rare by itself: exact sizes, repeated content, scarce blocks, limits.

    Args:
        seed: everything follows from it and from the version.
        max_requests: most requests.
        version: vLLM release; settings that it does not have are left out.
    """
    rng = Random(f"{seed}/{version}")
    block_size = rng.choice([1, 1, 2, 4, 8, 16, 16, 32, 64, 128, 128])
    max_prompt = rng.choice([8, 40, 150, 400] if block_size < 32 else [40, 150, 400, 500])
    max_output = rng.choice([1, 6, 30, 30, 120])
    step_ps = rng.choice([1, 5, 20]) * PS_PER_MS
    drafts = rng.choice([1, 2, 3, 5]) if rng.random() < 0.35 else 0
    max_loras = rng.choice([1, 1, 2]) if rng.random() < 0.35 else None
    crowded = rng.random() < 0.45  # blocks for few of many requests
    count = rng.randint(max_requests // 2 if crowded else 3, max_requests)
    requests = _draw_requests(rng, count, max_prompt, max_output, block_size, max_loras)
    config = _draw_config(rng, requests, block_size, drafts, max_loras, crowded, version)
    if rng.random() < 0.3:  # steps that end on a grid on which requests arrive too
        step_time = LinearStepTime(step_ps, 0, 0, 0)
        tick = step_ps
    else:
        step_time = LinearStepTime(
            base_ps=step_ps,
            per_token_ps=rng.randrange(0, 50) * PS_PER_US,
            per_context_token_ps=rng.randrange(0, 2000) * 1000,
            host_base_ps=rng.choice([0, step_ps // 10, step_ps * 2]),
            per_spread_token_ps=rng.choice([0, rng.randrange(0, 1000) * 1000]),
        )
        tick = 1
    gap_ps = rng.choice([0.0, 0.0, 0.5, 2.0] if crowded else [0.0, 0.5, 2.0, 8.0, 40.0]) * step_ps
    now = 0
    arrivals = []
    aborts = []
    abort_share = rng.choice([0.0, 0.0, 0.15, 0.5])
    abort_steps = rng.choice([0.3, 3, 10, 40])
    for request in requests:
        now += round(rng.expovariate(1.0) * gap_ps / tick) * tick
        arrivals.append((now, request))
        if rng.random() < abort_share:
            after = round(rng.expovariate(1.0) * abort_steps * step_ps / tick) * tick
            aborts.append((now + after, request.request_id))
    rates = tuple(rng.choice([0.3, 0.8, 1.0]) for _ in range(2)) if drafts else ()
    schedule = Schedule(config, step_time, arrivals, sorted(aborts), rates)
    return _abort_victims(rng, schedule) if crowded and rng.random() < 0.6 else schedule


def _abort_victims(rng: Random, schedule: Schedule) -> Schedule:
    """Aborts a few requests right after their preemption, which a random abort seldom meets."""
    from validation.engine_runs import run_plain  # noqa: PLC0415  (which runs schedules)

    steps = run_plain(schedule)[0].steps
    preempted = [(step.time_ps, request_id) for step in steps for request_id in step.preempted]
    chosen = rng.sample(preempted, min(len(preempted), rng.choice([1, 1, 5])))
    aborts = [(t + rng.choice([0, 1, 1, 10**9]), request_id) for t, request_id in chosen]
    return replace(schedule, aborts=sorted([*schedule.aborts, *aborts]))


def _draw_config(
    rng: Random,
    requests: list[EngineRequest],
    block_size: int,
    drafts: int,
    max_loras: int | None,
    crowded: bool,
    version: str,
) -> EngineConfig:
    has_new_settings = not rules_of(version).missing_settings
    longest_prompt = max(r.prompt_tokens for r in requests)
    longest = max(r.prompt_tokens + min(r.output_tokens, r.max_tokens) for r in requests)
    max_model_len = max(r.prompt_tokens + r.max_tokens for r in requests) + rng.choice([0, 0, 1, 50])
    if drafts and (max_loras is not None or not has_new_settings):
        # vLLM fails when drafts in flight that reach the end keep a request out of a step and another adapter
        # takes its place; 0.26 pads requests without a look at the end.
        max_model_len += 2 * drafts + 2
    chunked = rng.random() < 0.7
    max_num_seqs = rng.choice([8, 32, 64, 256, 256, 1024] if crowded else [1, 1, 1, 2, 4, 8, 64, 256])
    budget = rng.choice([8, 32, 64, 256, 512, 2048])
    if max_num_seqs == 256 and longest_prompt > 256 and rng.random() < 0.7:
        budget = 256
    if not chunked:
        budget = max(budget, max_model_len)
    fits = -(-min(longest + 3 * drafts + 2, max_model_len) // block_size) + 1
    factor = rng.choice([1.0, 1.0, 1.1, 1.3] if crowded else [1.0, 1.2, 2.0, 3.0, 8.0])
    threshold = max(rng.choice([1, 4, 16, 100]), drafts + 1) if rng.random() < 0.4 else 0
    limits_reqs = has_new_settings and rng.random() < 0.4
    limits_tokens = has_new_settings and rng.random() < 0.4
    least = len(requests) // 3 if crowded else 1
    return EngineConfig(
        num_gpu_blocks=1 + max(fits, round(fits * factor)),
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_active_seqs=(
            rng.randint(min(4, max_num_seqs), min(16, max_num_seqs))
            if has_new_settings and rng.random() < 0.25
            else None
        ),
        max_num_batched_tokens=max(budget, max_num_seqs, drafts + 1),
        block_size=block_size,
        enable_prefix_caching=rng.random() < 0.75,
        enable_chunked_prefill=chunked,
        async_scheduling=rng.random() < 0.6,
        policy="priority" if rng.random() < 0.4 else "fcfs",
        scheduler_reserve_full_isl=rng.random() < 0.6,
        watermark=rng.choice([0.0, 0.0, 0.05, 0.2]),
        long_prefill_token_threshold=min(threshold, max_model_len),
        long_prefill_token_threshold_adaptive=has_new_settings and rng.random() < 0.6,
        max_num_queued_reqs=rng.randint(least, len(requests)) if limits_reqs else None,
        max_num_queued_tokens=rng.randint(longest_prompt, 20 * longest_prompt) if limits_tokens else None,
        max_loras=max_loras,
        num_speculative_tokens=drafts,
        vllm_version=version,
    )


def _draw_requests(
    rng: Random, count: int, max_prompt: int, max_output: int, block_size: int, max_loras: int | None
) -> list[EngineRequest]:
    groups = rng.choice([0, 1, 2, 5])
    stops_early = rng.choice([0.0, 0.3, 1.0])
    repeats = rng.choice([0.1, 0.3])
    short = rng.choice([0.0, 0.4])
    adapters = None if max_loras is None else max_loras + rng.choice([1, 2, 3])
    requests: list[EngineRequest] = []
    for request_id in range(count):
        prompt = rng.randint(1, min(8, max_prompt) if rng.random() < short else max_prompt)
        kind = rng.random()
        if kind < 0.06:
            prompt = 1
        elif kind < 0.25 and block_size <= max_prompt:
            prompt = block_size * rng.randint(1, max_prompt // block_size)
        max_tokens = rng.randint(1, max_output)
        output = rng.randint(1, max_tokens) if rng.random() < stops_early else max_tokens
        lora = rng.choice([None, *range(adapters)]) if adapters is not None else None
        segments: tuple[tuple[int, int], ...] = ()
        if groups and rng.random() < 0.8:
            earlier = [r for r in requests if r.segments and r.segments[-1][0] > 1000]
            if earlier and rng.random() < repeats:  # the same prompt again
                before = rng.choice(earlier)
                prompt, segments, lora = before.prompt_tokens, before.segments, before.lora
            elif earlier and rng.random() < 0.3:  # the next turn of a conversation
                before = rng.choice(earlier)
                prompt = max(1, min(max_prompt, before.segments[-1][1] + rng.randint(-3, 20)))
                segments, lora = before.segments, before.lora
            else:
                segments = (
                    (rng.randrange(groups) + 1, rng.randint(0, max_prompt)),
                    (1001 + request_id, prompt + output + rng.randint(0, 8)),
                )
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
                lora=lora,
            )
        )
    return requests
