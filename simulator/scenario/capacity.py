"""Node pools and the market that they are bought on: prices, zones, reclaims, stock-outs, who asks for nodes.

Figures on spot capacity are computed from skypilot-org/spot-traces 221da1ab ("Can't Be Late", NSDI 2024): AWS, V100
and K80, 2022 and 2023. Newer GPUs and other clouds differ: put your own figures in, or replay a trace.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from simulator.scenario.billing import Billing, Commitment
from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, Section
from simulator.scenario.spread import Spread, SpreadS

_NOTICE_S: Final = {"aws": 120.0, "gcp": 30.0, "azure": 30.0, "oci": 30.0}
"""AWS: EC2 user guide, spot instance termination notices. GCP: Compute Engine, Spot VMs. Azure: Scheduled Events,
Preempt. OCI: cloudpricecheck.com, spot pricing explained (2026)."""
_DEFAULT_NOTICE_S: Final = 30.0
_POD_GRACE_S: Final = {"gcp": 15.0}
"""GKE's kubelet gives ordinary pods 15 s of the 30 s (GKE documentation, Spot VMs)."""


class Rebalance(Section):
    """AWS's rebalance recommendation: a hint, ahead of the notice, that a node is at elevated risk."""

    lead: SpreadS = Spread(median=300.0, sigma=1.0)
    """How long before the notice it comes (our estimate: AWS says earlier or together with it)."""
    share: Fraction = 1.0
    """Part of a node's own reclaims that are announced so; mass events never are."""
    action: Literal["ignore", "drain", "replace"] = "ignore"
    """ignore: Karpenter, which only records it. drain: Node Termination Handler with rebalance draining, at once.
    replace: managed node groups and Auto Scaling's Capacity Rebalancing, which drain once a new node is ready."""


class Reclaim(Section):
    """How a cloud takes spot nodes back."""

    mean_time_between: PositiveDurationS = 4 * 3600.0
    """Mean node-hours between a node's own reclaims; a zone's mass events come on top. Spot traces: 2 to 5 h, V100."""
    median_time_between: PositiveDurationS | None = None
    """Median of the same; the lifetime is then lognormal. Without it exponential, whose median is 0.69 of the mean:
    real ones have a heavier tail (0.13 to 0.44 of the mean in the traces of single V100s)."""
    notice: DurationS | None = None
    """Warning before the node goes: by the pool's cloud 120s on AWS, 30s on GCP, Azure and OCI, else 30s. 0s: it just
    vanishes."""
    detection: DurationS | None = None
    """From the cloud's notice until the node is cordoned and its pods are told to stop; 2s unless given.
    Without notice: from the node's end until the control plane gives it up and its pods are replaced; 40s unless
    given (node-monitor-grace-period)."""
    pod_grace: DurationS | None = None
    """Longest time that pods get to end, whatever terminationGracePeriodSeconds says; 15s unless given with cloud:
    gcp (GKE)."""
    replacement: bool = True
    """Whether new nodes can be had after a reclaim; if not, the pool gets none after its first reclaim."""
    rebalance: Rebalance | None = None
    """Hints ahead of the notice; none unless given."""

    @model_validator(mode="after")
    def _median_below_mean(self) -> Reclaim:
        if self.median_time_between is not None and self.median_time_between >= self.mean_time_between:
            raise ValueError("median_time_between must be below mean_time_between (a lognormal's is)")
        return self


class PriceChange(Section):
    """A price from an instant on."""

    at: DurationS
    """Time since the start of the run."""
    usd_per_gpu_hour: Annotated[float, Field(ge=0)]


class NodePool(Section):
    """Nodes of one kind and price in one zone."""

    name: str
    capacity: Literal["on-demand", "spot"] = "on-demand"
    zone: str | None = None
    """Name of the entry of ``zones`` whose market it buys on; pools without one have a market of their own, where
    nodes can always be had."""
    gpu: str | None = None
    """GPU of its nodes, if it differs from ``engine.gpu``; step times, KV blocks and the catalogue's price follow."""
    gpus_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    share: Annotated[float, Field(ge=0)] = 1.0
    """Weight of this pool among all pools when a new pod is placed: two pools of equal weight get half each.
    0: only for pods that no other pool can take (a fallback to on-demand)."""
    base: Annotated[int, Field(ge=0)] = 0
    """So many pods go to this pool before shares count: the on-demand base of a mixed fleet."""
    max_nodes: Annotated[int, Field(ge=0)] = 1000
    warm_nodes: Annotated[int, Field(ge=0)] = 0
    """Nodes kept ready though empty; they are paid for. One that gets a pod is made up for by a new one."""
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price; without it the catalogue's for the GPU: the median list price of what fits cloud, region, instance and
    zone, as far as they are given."""
    price_changes: list[PriceChange] = []
    """Later prices, in rising order of time; all nodes of the pool pay them from then on."""
    usd_per_node_hour: Annotated[float, Field(ge=0)] = 0.0
    """Paid for each node on top: disks, egress, a managed control plane, CPUs that the GPU's price leaves out."""
    billing: Billing = Billing()
    commitment: Commitment | None = None
    """On-demand pools only; without it everything is paid at the pool's price."""
    cloud: str | None = None
    """Cloud whose catalogue price, notice and grace are meant, such as gcp or aws."""
    region: str | None = None
    """Region whose catalogue price is meant, such as us-east-1; needs cloud."""
    instance: str | None = None
    """Instance type whose catalogue price is meant, such as p5.48xlarge; needs cloud."""
    provisioning: SpreadS = Spread(median=50.0, sigma=0.3)
    """From the request for a node until it is Ready with its GPU allocatable. 47 s with Karpenter, 238 s with the
    cluster autoscaler, in one EKS set-up with CPU nodes (techplained.com); GPU nodes take longer."""
    empty_node_ttl: DurationS = 60.0
    """How long an empty node is kept before it is given back."""
    reclaim: Reclaim | None = None
    """Spot pools only; defaults apply to a spot pool that does not give it."""

    @property
    def terms(self) -> Reclaim:
        """``reclaim``, or its defaults."""
        return self.reclaim or Reclaim()

    @property
    def notice_s(self) -> float:
        """The cloud's notice."""
        notice = self.terms.notice
        return _NOTICE_S.get(self.cloud or "", _DEFAULT_NOTICE_S) if notice is None else notice

    @property
    def detection_s(self) -> float:
        """``detection`` or its default."""
        detection = self.terms.detection
        if detection is not None:
            return detection
        return 2.0 if self.notice_s > 0 else 40.0

    @property
    def pod_grace_s(self) -> float | None:
        """Longest time that pods get after a notice; None for no limit but their own."""
        grace = self.terms.pod_grace
        return _POD_GRACE_S.get(self.cloud or "") if grace is None else grace

    @model_validator(mode="after")
    def _sound(self) -> NodePool:
        if self.capacity == "on-demand" and self.reclaim is not None:
            raise ValueError("reclaim is for spot pools; this one has capacity: on-demand")
        if self.capacity == "spot" and self.commitment is not None:
            raise ValueError("commitment is for on-demand pools; this one has capacity: spot")
        for name in ("region", "instance"):
            if getattr(self, name) is not None and self.cloud is None:
                raise ValueError(f"{name} needs cloud")
        if self.warm_nodes > self.max_nodes:
            raise ValueError(f"warm_nodes ({self.warm_nodes}) is above max_nodes ({self.max_nodes})")
        times = [change.at for change in self.price_changes]
        if any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise ValueError("price_changes must be in rising order of time")
        return self


class MassEvents(Section):
    """Reclaims that hit many nodes of a zone at once, and leave it without spot capacity for a while.

    Each event takes all spot nodes of the zone (``take_all``), or each one with probability ``take_share``.
    """

    mean_time_between: PositiveDurationS = 2.7 * 3600.0
    """Mean time between events of the zone (exponential). Spot traces of 16 nodes: 404 losses in 44 days."""
    take_all: Fraction = 0.32
    """Part of the events that take every node. 12 to 46 %, mean 32 %, of the losses in those traces."""
    take_share: Fraction = 0.4
    """Chance of each node in the others. 9.3 of 16 nodes per loss over all of them, hence 6.2 over these."""
    region_share: Fraction = 0.4
    """Part of the events that come from the zone's region, where other zones with a share see them too. Availability
    of two zones of a region correlates with 0.25 to 0.59, of two regions with 0.03 to 0.27."""
    outage: SpreadS = Spread(median=2160.0, sigma=1.6)
    """How long no spot node can be had after an event: mean 2.2 h, median 0.4 to 0.75 h in those traces."""


class StockOut(Section):
    """A given time without capacity."""

    start: DurationS
    end: PositiveDurationS

    @model_validator(mode="after")
    def _lasts(self) -> StockOut:
        if self.end <= self.start:
            raise ValueError(f"end ({self.end:g} s) must be after start ({self.start:g} s)")
        return self


class StockOuts(Section):
    """Times in which a zone grants no new nodes; those that are there stay."""

    capacity: Literal["on-demand", "spot", "any"] = "any"
    mean_time_between: PositiveDurationS | None = None
    """From the end of one to the start of the next (exponential); without it only those of ``intervals``."""
    duration: SpreadS = Spread(median=1800.0, sigma=1.0)
    """How long each lasts (our estimate)."""
    intervals: list[StockOut] = []
    """Given ones."""


class Zone(Section):
    """An availability zone: what its pools share."""

    name: str
    region: str | None = None
    mass_events: MassEvents | None = None
    stock_outs: list[StockOuts] = []
    availability: str | None = None
    """File of the spot nodes that the zone has over time, relative to the scenario: CSV with t_s, zone and
    nodes_available, or JSON of SkyPilot's spot traces. It takes the place of the pools' reclaims by chance."""
    availability_start: DurationS = 0.0
    """Where in the file the run begins."""

    @model_validator(mode="after")
    def _replay_or_chance(self) -> Zone:
        if self.availability is not None and self.mass_events is not None:
            raise ValueError("mass_events do not go with availability: the file holds them")
        return self


class Provisioner(Section):
    """Who asks for nodes, and when. A zone that has none is asked again after a pause."""

    kind: Literal["direct", "karpenter", "cluster-autoscaler"] = "direct"
    """direct: at the instant when a pod fits nowhere. karpenter: at the end of a batching window. cluster-autoscaler:
    at its next scan."""
    batch_idle: DurationS = 1.0
    """Karpenter's BATCH_IDLE_DURATION: the window ends when no pod came for so long (default 1s)."""
    batch_max: DurationS = 10.0
    """Karpenter's BATCH_MAX_DURATION: longest window (default 10s)."""
    scan_interval: PositiveDurationS = 10.0
    """The cluster autoscaler's --scan-interval (default 10s)."""
    back_off: PositiveDurationS | None = None
    """Pause after a refusal. direct 30s; karpenter 3 min, for which it takes the offering for unavailable
    (UnavailableOfferingsTTL); cluster-autoscaler 5 min (--initial-node-group-backoff-duration)."""
    max_back_off: PositiveDurationS = 1800.0
    """cluster-autoscaler: the pause doubles up to this (--max-node-group-backoff-duration, 30 min)."""
    back_off_reset: PositiveDurationS = 10800.0
    """cluster-autoscaler: after so long without a refusal it starts anew (--node-group-backoff-reset-timeout, 3 h)."""

    @property
    def back_off_s(self) -> float:
        """``back_off`` or its default."""
        if self.back_off is not None:
            return self.back_off
        return {"direct": 30.0, "karpenter": 180.0, "cluster-autoscaler": 300.0}[self.kind]
