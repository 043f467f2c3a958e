"""The serving engine of every replica."""

from __future__ import annotations

from typing import Any, Literal

from simulator.scenario.quantities import DurationS, Section


class EngineSection(Section):
    """vLLM on a GPU: its own configuration, and where its step times come from."""

    vllm: str | dict[str, Any]
    """A ``vllm serve --config`` YAML, as a path relative to the scenario, or its keys written here."""
    gpu: str
    """GPU id of the catalogue, such as H100-SXM."""
    model_config_json: str | None = None
    """A Hugging Face config.json for a model that the catalogue does not know."""
    profile: str = "auto"
    """Step times: auto (the best shipped profile, else the roofline), roofline, a profile's name or a path."""
    vllm_version: str = "0.32"
    """vLLM release whose scheduling rules apply."""
    engine_impl: Literal["skipping", "plain"] = "skipping"
    """How the engine is computed: skipping sums up the steps in which nothing is decided, plain does each one.
    Both give the same results; plain is slower."""
    frontend_in: DurationS | None = None
    """HTTP and tokenisation before the engine's queue; overrides the profile's."""
    frontend_out: DurationS | None = None
    """Detokenisation and HTTP after a step; overrides the profile's."""
