"""Nodes, pods and money: where replicas run, how long they take to start, what takes them away.

Phases and figures follow published measurements; each default names its source in the comment beside it
(tensorfuse.io = "Reducing GPU cold start", Sep 2025, Llama-3.1-8B on one L40S; vllm#19824 = measurements in
vllm-project/vllm issue 19824).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.scenario.autoscaling import Autoscaling
from simulator.scenario.quantities import DurationS, PositiveDurationS, Section
from simulator.scenario.resource_metrics import ResourceMetrics
from simulator.scenario.spread import Spread, SpreadS


def _lognormal(median_s: float, sigma: float = 0.3) -> Spread:
    return Spread(median=median_s, sigma=sigma)


class Reclaim(Section):
    """How a cloud takes spot nodes back."""

    mean_time_between: PositiveDurationS = 4 * 3600.0
    """Mean node-hours between reclaims of one node (exponential). SkyPilot's spot traces: 2 to 5 h for V100s."""
    notice: DurationS = 30.0
    """Warning before the node goes: 120s on AWS, 30s on GCP and Azure, 0s when it just vanishes."""
    detection: DurationS | None = None
    """From the cloud's notice until the node is cordoned and its pods are told to stop; 2s unless given.
    Without notice: from the node's end until the control plane gives it up and its pods are replaced; 40s unless
    given (node-monitor-grace-period)."""
    pod_grace: DurationS | None = None
    """Longest time that pods get to end, whatever terminationGracePeriodSeconds says: 15s on GKE."""
    replacement: bool = True
    """Whether new nodes can be had after a reclaim; if not, the pool gets none after its first reclaim."""

    @property
    def detection_s(self) -> float:
        """``detection`` or its default, seconds."""
        if self.detection is not None:
            return self.detection
        return 2.0 if self.notice > 0 else 40.0


class NodePool(Section):
    """Nodes of one kind and price."""

    name: str
    capacity: Literal["on-demand", "spot"] = "on-demand"
    gpus_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    share: Annotated[float, Field(gt=0)] = 1.0
    """Weight of this pool among all pools when a new pod is placed: two pools of equal weight get half each."""
    max_nodes: Annotated[int, Field(ge=0)] = 1000
    warm_nodes: Annotated[int, Field(ge=0)] = 0
    """Nodes kept ready though empty; they are paid for. One that gets a pod is made up for by a new one."""
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price; without it the catalogue's price for the GPU (and the cloud, if given) is used."""
    cloud: str | None = None
    """Cloud whose catalogue price is meant, such as gcp or aws."""
    provisioning: SpreadS = _lognormal(50.0)
    """Pod unschedulable until the node is Ready with its GPU allocatable. Karpenter: 47 s to the first node."""
    empty_node_ttl: DurationS = 60.0
    """How long an empty node is kept before it is given back."""
    reclaim: Reclaim | None = None
    """Spot pools only; defaults apply to a spot pool that does not give it."""

    @model_validator(mode="after")
    def _sound(self) -> NodePool:
        if self.capacity == "on-demand" and self.reclaim is not None:
            raise ValueError("reclaim is for spot pools; this one has capacity: on-demand")
        if self.warm_nodes > self.max_nodes:
            raise ValueError(f"warm_nodes ({self.warm_nodes}) is above max_nodes ({self.max_nodes})")
        return self


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


class Cluster(Section):
    """Node pools and start-up times."""

    pools: list[NodePool] = Field(default_factory=lambda: [NodePool(name="on-demand")], min_length=1)
    cold_start: ColdStart = ColdStart()
    initial: Literal["ready", "cold"] = "ready"
    """Whether the first replicas are ready at time 0 or start cold then."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Cluster:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError(f"pool names must be unique, got {', '.join(names)}")
        return self


class Fleet(Section):
    """The Deployment and what sets its size."""

    deployment: str | None = None
    """Path of an apps/v1 Deployment manifest (resources, probes, grace period, preStop)."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """Replicas at the start (and for good, without an autoscaler); overrides the manifest's."""
    autoscaling: Autoscaling = Autoscaling()
    resource_metrics: ResourceMetrics = ResourceMetrics()
