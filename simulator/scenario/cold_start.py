"""What a cold start consists of, and how long its parts take.

Phases and figures follow published measurements; each default names its source in the text beside it
(tensorfuse.io = "Reducing GPU cold start", Sep 2025, Llama-3.1-8B on one L40S).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.scenario.quantities import Section
from simulator.scenario.spread import Spread, SpreadS


def _lognormal(median_s: float, sigma: float = 0.3) -> Spread:
    return Spread(median=median_s, sigma=sigma)


class ColdStart(Section):
    """From a bound pod to a ready one, phase by phase. Node provisioning belongs to the pool."""

    image_pull: SpreadS = _lognormal(90.0)
    """First pod on a node. vLLM's image is 8 to 10 GB compressed: 60 to 300 s without pre-pull."""
    image_cached: SpreadS = Spread(fixed=1.0)
    """Later pods on a node that has the image."""
    prepulled: bool = True
    """Image baked into the node (secondary boot disk, pre-pull DaemonSet): every pod finds it cached."""
    process_start: SpreadS = _lognormal(20.0)
    """Container start, Python imports, engine initialisation: 15 to 60 s."""
    weights: SpreadS | None = None
    """Storage to GPU. Without it: weight bytes over ``weights_gb_per_s``, spread by sigma 0.25."""
    weights_gb_per_s: Annotated[float, Field(gt=0)] = 1.5
    """Rate of reading weights, 10^9 bytes a second per replica. Llama-3.1-8B from NVMe in 5 to 20 s."""
    compile: SpreadS = _lognormal(45.0)
    """torch.compile with a cold cache: 10 + 42 s (tensorfuse.io). Skipped with enforce-eager."""
    compile_cached: SpreadS = _lognormal(18.0)
    """The same with a warm cache: 10 + 13 s (tensorfuse.io)."""
    compile_cache: Literal["cold", "warm"] = "warm"
    """Whether pods share a compile cache (VLLM_CACHE_ROOT on a volume)."""
    graph_capture: SpreadS = _lognormal(20.0)
    """Memory profiling and CUDA graph capture: 5 to 55 s. Skipped with enforce-eager, but for profiling."""
    profiling_eager: SpreadS = _lognormal(5.0)
    """Memory profiling alone, with enforce-eager."""
    endpoint_propagation: SpreadS = Spread(fixed=1.0)
    """From a pod that turns ready (or unready) until the gateway knows: EndpointSlice and proxies."""
