"""Requests a second that one engine serves within latency limits, from its step times alone.

Steady state of means, no chance: with b requests in the batch each step takes b tokens further and, for those that
come anew, b × input / output prompt tokens. The step lasts what the step times say at the mean context; b requests of
`output` tokens then leave every `output` steps. The best b within the limits, the KV cache and the token budget is
taken. Arrivals by chance need room that this does not leave: it is an upper bound on what a replica can be given.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.engines.protocol import StepTime
from simulator.units import to_s


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What bounds a batch: requests, tokens a step, and tokens of KV cache."""

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_tokens: int


def _step_s(step_time: StepTime, batch: int, context: float, prefill: float, chunk_context: float) -> float:
    """Length of one step: ``prefill`` prompt tokens beside ``batch`` decodes."""
    tokens = round(prefill)
    prefills = [(tokens, round(chunk_context))] if tokens else []
    gpu_ps = step_time.step_ps(batch, round(batch * context), prefills)
    return to_s(max(gpu_ps, step_time.host_ps(batch + len(prefills))))


def best_rate(
    step_time: StepTime,
    limits: EngineLimits,
    input_tokens: float,
    output_tokens: float,
    ttft_s: float,
    itl_s: float,
) -> float:
    """The largest rate per second; 0 if not even one request at a time meets the limits.

    Args:
        step_time: of the engine.
        limits: of the engine.
        input_tokens: mean, at least 1.
        output_tokens: mean, at least 1.
        ttft_s: limit of the time to the first token, infinite for none.
        itl_s: limit of the time between tokens, infinite for none.
    """
    context = input_tokens + output_tokens / 2
    best = 0.0
    for batch in range(1, limits.max_num_seqs + 1):
        prefill = batch * input_tokens / output_tokens
        if batch + prefill > limits.max_num_batched_tokens:
            break
        if batch * (input_tokens + output_tokens) > limits.kv_tokens and batch > 1:
            break
        step_s = _step_s(step_time, batch, context, prefill, input_tokens / 2)
        if step_s > itl_s:
            break
        chunk = min(input_tokens, limits.max_num_batched_tokens - batch)
        chunks = -(-input_tokens // chunk)
        first_s = step_s + chunks * _step_s(step_time, batch, context, chunk, input_tokens - chunk)
        if first_s > ttft_s:
            break
        best = max(best, batch / (output_tokens * step_s))
    return best
