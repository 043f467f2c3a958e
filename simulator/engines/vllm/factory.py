"""Which of the two vLLM engines runs a configuration."""

from __future__ import annotations

from simulator.engines.protocol import Engine, ItlSink, StepTime
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine
from simulator.engines.vllm.rules import rules_of
from simulator.engines.vllm.skipping import SkippingEngine

SKIPPING_RULES = rules_of("0.32")
"""The rules that the event-skipping engine has in closed form."""


def needs_every_step(config: EngineConfig) -> str | None:
    """Why a configuration has no quiet stretches in closed form; None if it has.

    - Speculative decoding draws an acceptance per request and position: every step decides something.
    - A head that is skipped for its adapter lets others pass, which a decode may undo.
    - vLLM 0.26 counts a look-up of a blocked head in every step, and cuts a lone long prompt.
    """
    if config.num_speculative_tokens:
        return "speculative decoding"
    if config.max_loras is not None:
        return "a limit of LoRA adapters"
    if config.rules != SKIPPING_RULES:
        return f"the rules of vLLM {config.vllm_version}"
    return None


def make_engine(config: EngineConfig, step_time: StepTime, itl: ItlSink, *, skipping: bool = True) -> Engine:
    """An engine: the event-skipping one where it can be used and is wanted, else the plain one."""
    if skipping and needs_every_step(config) is None:
        return SkippingEngine(config, step_time, itl)
    return PlainEngine(config, step_time, itl)
