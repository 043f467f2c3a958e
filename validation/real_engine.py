"""Show that our engine takes the steps of a real vLLM engine.

    python -m validation.real_engine

starts a real vLLM on the CPU with a tiny random-weight model, sends it requests with shared prefixes while KV
blocks are scarce, records every scheduling decision, and replays the arrivals, counted in steps, in our engine.
With ``--record`` the traces are kept in ``validation/real_traces``. Where vLLM is not installed, it replays
those instead.

The CPU's attention wants block sizes that are multiples of 32, and async scheduling is off there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from simulator.engines.protocol import EngineRequest
from validation.real_trace import TRACES, RealTrace, differing_steps, from_lines
from validation.vllm_install import tiny_model_config, vllm_version

PREFIX_TOKENS: Final = 160


@dataclass(frozen=True)
class Case:
    """One run of the real engine.

    Attributes:
        settings: engine arguments beside the common ones.
        mean_gap_s: between arrivals.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    requests: int = 130
    mean_gap_s: float = 0.05


CASES: Final = (
    Case("fcfs", {"num_gpu_blocks_override": 40}),
    Case(
        "priority",
        {
            "num_gpu_blocks_override": 36,
            "scheduling_policy": "priority",
            "scheduler_reserve_full_isl": False,
            "max_num_batched_tokens": 96,
            "long_prefill_token_threshold": 48,
        },
    ),
)


def _draw_requests(case: Case) -> list[tuple[float, EngineRequest, list[int]]]:
    """(time in s, request, prompt tokens); a third of the prompts share nothing."""
    rng = Random(case.name)
    at = 0.0
    drawn = []
    for request_id in range(case.requests):
        at += rng.expovariate(1.0 / case.mean_gap_s)
        group = rng.randrange(6)
        shared = rng.randint(1, PREFIX_TOKENS) if group < 4 else 0
        own = rng.randint(1, 120)
        tokens = [3 + group * 1000 + position for position in range(shared)]
        tokens += [10_000 + request_id * 150 + position for position in range(own)]
        output = rng.randint(4, 120)
        segments = ((group + 1, shared),) if shared else ()
        request = EngineRequest(
            request_id, len(tokens), output, output, priority=rng.randrange(3), segments=segments
        )
        drawn.append((at, request, tokens))
    return drawn


async def _drive(case: Case, model: str) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
    from vllm.sampling_params import SamplingParams  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    settings: dict[str, Any] = {
        "model": model,
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "max_model_len": 512,
        "enforce_eager": True,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 256,
        "block_size": 32,
        "enable_prefix_caching": True,
        "scheduler_cls": "validation.tracing_scheduler.TracingScheduler",
    }
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**(settings | case.settings)))

    async def send(at: float, request: EngineRequest, tokens: list[int]) -> None:
        await asyncio.sleep(at)
        params = SamplingParams(
            max_tokens=request.max_tokens, ignore_eos=True, temperature=0.0, detokenize=False
        )
        async for _ in engine.generate(
            {"prompt_token_ids": tokens},
            params,
            request_id=str(request.request_id),
            priority=request.priority,
        ):
            pass

    await asyncio.gather(*(send(*drawn) for drawn in _draw_requests(case)))
    engine.shutdown()


def record(case: Case) -> RealTrace:
    """Run a real vLLM on this machine's CPU and record its steps."""
    version = vllm_version()
    assert version is not None
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "0")
    repository = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(tiny_model_config()))
        trace = Path(folder, "steps.jsonl")
        os.environ["STEP_TRACE"] = str(trace)
        asyncio.run(_drive(case, folder))
        lines = [json.loads(line) for line in trace.read_text().splitlines()]
    requests = {request.request_id: request for _, request, _ in _draw_requests(case)}
    source = f"vLLM {version} on a CPU, Llama of 1 layer with random weights, {case.name}"
    return from_lines(source, lines, requests, ".".join(version.split(".")[:2]))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if no step differs, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.real_engine", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--record", action="store_true", help=f"keep the traces in {TRACES.name}")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    args = parser.parse_args(arguments)
    cases = [case for case in CASES if args.case in (None, case.name)]
    traces: list[RealTrace] = []
    if vllm_version() is None:
        print(f"vLLM is not installed: replaying the traces in {TRACES.name}, recorded from it")
        traces = [RealTrace.read(path) for path in sorted(TRACES.glob("*.json.xz"))]
    for case in cases if not traces else ():
        trace = record(case)
        traces.append(trace)
        if args.record:
            trace.write(TRACES / f"vllm-cpu-{case.name}.json.xz")
    differing = 0
    for trace in traces:
        steps = differing_steps(trace)
        differing += len(steps)
        print(
            f"{trace.source}: {len(trace.arrivals)} requests, {len(trace.steps)} steps,"
            f" {trace.num_preemptions} preemptions, {trace.num_prefix_hits} prefix hits,"
            f" {len(steps)} differing steps" + (f", the first {steps[0]}" if steps else "")
        )
    return 0 if differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
