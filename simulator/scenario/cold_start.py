"""What a cold start consists of, and how long its parts take.

Phases and figures follow published measurements; each default names its source in the text beside it
(tensorfuse.io = "Reducing GPU cold start", Sep 2025, Llama-3.1-8B on one L40S).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from simulator.scenario.quantities import Fraction, Section
from simulator.scenario.spread import Spread, SpreadS


def _lognormal(median_s: float, sigma: float = 0.3) -> Spread:
    return Spread(median=median_s, sigma=sigma)


_GB_PER_S: Final = {"disk": 1.5, "network-disk": 0.34, "object-store": 2.0}
"""One reader. disk: Llama-3.1-8B (16 GB) from local NVMe in 5 to 20 s. network-disk: 48 s from gp3 with the default
loader; object-store: 4.2 s streamed from S3 at best, 15 s at worst (runai-model-streamer, docs/src/benchmarks.md,
g5.12xlarge; tensorfuse.io)."""
_NODE_GB_PER_S: Final = {"disk": 29.4, "network-disk": 1.1, "object-store": 5.0}
"""All readers of a node. NVMe of ServerlessLLM's H100 testbed (9f50241b); gp3 at 1.03 GiB/s (Run:ai benchmarks); the 40
Gb/s network of a g5.12xlarge."""


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
    layer_reuse: Fraction = 0.0
    """Part of the pull that a node saves if it has the image of another version: unchanged layers."""
    start: Literal["fresh", "snapshot", "sleep-1", "sleep-2"] = "fresh"
    """How a container comes up. snapshot: restored from one of process and GPU, in place of everything up to graph
    capture. sleep-1, sleep-2: woken, on a node that was ready before the pod was created, from vLLM's sleep mode with
    weights in host memory (1) or dropped and read again (2). Such a sleeper holds its share of a GPU all the time.
    Other nodes, and restarts after a crash, start fresh."""
    snapshot: SpreadS = _lognormal(70.0)
    """Restore of a snapshot: 460 s to 70 s in one report (infinitylogesh/vllm-serverless)."""
    wake: SpreadS = Spread(min=0.1, max=0.4)
    """Waking from sleep, without reading weights: small models (blog.vllm.ai, sleep mode, Oct 2025)."""
    weights: SpreadS | None = None
    """Storage to GPU, whatever else the node reads. Without it the bytes are read as the next keys say, spread by
    sigma 0.25, and share bandwidth with other pods of the node."""
    weights_from: Literal["disk", "network-disk", "object-store"] = "disk"
    """Where weights are: local NVMe, a network volume such as gp3, or streamed from an object store."""
    weights_gb_per_s: Annotated[float, Field(gt=0)] | None = None
    """10^9 bytes a second that one replica reads at most. disk 1.5, network-disk 0.34, object-store 2."""
    weights_node_gb_per_s: Annotated[float, Field(gt=0)] | None = None
    """The same of all replicas of a node together. disk 29.4, network-disk 1.1, object-store 5."""
    page_cache: bool = True
    """Whether a node that has read the weights once gives them from memory afterwards; it needs as much of it free."""
    page_cache_gb_per_s: Annotated[float, Field(gt=0)] = 5.25
    """One replica, from the page cache: Qwen3-32B's 65.5 GB in 12.47 s (ServerlessLLM 9f50241b, safetensors, H100)."""
    compile: SpreadS = _lognormal(45.0)
    """torch.compile with a cold cache: 10 + 42 s (tensorfuse.io). Skipped with enforce-eager."""
    compile_cached: SpreadS = _lognormal(18.0)
    """The same with a warm cache: 10 + 13 s (tensorfuse.io)."""
    compile_cache: Literal["cold", "warm", "node", "shared"] = "warm"
    """VLLM_CACHE_ROOT. cold: in the container, every start compiles. node: on the node's disk, its first pod compiles.
    shared: on a volume, the first pod compiles (and those that start before it is through). warm: filled before. Each
    version and GPU type has an entry of its own."""
    graph_capture: SpreadS = _lognormal(20.0)
    """Memory profiling and CUDA graph capture: 5 to 55 s. Skipped with enforce-eager, but for profiling."""
    profiling_eager: SpreadS = _lognormal(5.0)
    """Memory profiling alone, with enforce-eager."""
    endpoint_propagation: SpreadS = Spread(fixed=1.0)
    """From a pod that turns ready (or unready) until the gateway knows: EndpointSlice and proxies."""

    @property
    def reader_bytes_per_s(self) -> int:
        """What one replica reads at most."""
        given = self.weights_gb_per_s
        return round((_GB_PER_S[self.weights_from] if given is None else given) * 1e9)

    @property
    def node_bytes_per_s(self) -> int:
        """What all replicas of a node read at most; never less than one can."""
        given = self.weights_node_gb_per_s
        shared = round((_NODE_GB_PER_S[self.weights_from] if given is None else given) * 1e9)
        return shared if given is not None else max(shared, self.reader_bytes_per_s)

    @model_validator(mode="after")
    def _one_way_to_read(self) -> ColdStart:
        keys = {
            "weights_from",
            "weights_gb_per_s",
            "weights_node_gb_per_s",
            "page_cache",
            "page_cache_gb_per_s",
        }
        given = keys & self.model_fields_set
        if self.weights is not None and given:
            raise ValueError(f"weights is a fixed time: {min(given)} does not go with it")
        return self
