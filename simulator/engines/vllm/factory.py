"""Which of the two vLLM engines runs a configuration."""

from __future__ import annotations

from simulator.engines.protocol import Engine, ItlSink, StepTime
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine
from simulator.engines.vllm.skipping import SkippingEngine


def needs_every_step(config: EngineConfig) -> str | None:
    """Why a configuration has no quiet stretches in closed form; None if it has.

    - Speculative decoding draws an acceptance per request and position: every step decides something.
    - A head that is skipped for its adapter lets others pass, which a decode may undo.
    """
    if config.num_speculative_tokens:
        return "speculative decoding"
    if config.max_loras is not None:
        return "a limit of LoRA adapters"
    return None


def make_engine(config: EngineConfig, step_time: StepTime, itl: ItlSink, *, skipping: bool = True) -> Engine:
    """An engine: the event-skipping one where it can be used and is wanted, else the plain one."""
    if skipping and needs_every_step(config) is None:
        return SkippingEngine(config, step_time, itl)
    return PlainEngine(config, step_time, itl)
