"""What breaks: faults injected at given times, or by chance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from simulator.scenario.lifecycle import PodCount
from simulator.scenario.quantities import DurationS, PositiveDurationS, Section, parse_duration_s


def _instants(given: object) -> object:
    return [parse_duration_s(t) for t in (given if isinstance(given, list) else [given])]


class _Fault(Section):
    """When a fault strikes, and whom."""

    at: Annotated[list[DurationS], BeforeValidator(_instants)] = []
    """Times since the start of the run; one may stand without brackets."""
    mean_time_between: PositiveDurationS | None = None
    """By chance: mean time between strikes (exponential), with or without those of ``at``."""
    pods: PodCount = 1
    """How many of the pods whose containers run it hits, or what percentage (rounded up); which ones is drawn."""
    pool: str | None = None
    """Only pods on nodes of this pool."""

    @model_validator(mode="after")
    def _strikes(self) -> _Fault:
        if not self.at and self.mean_time_between is None:
            raise ValueError("expected at, mean_time_between or both")
        return self


class _Lasting(_Fault):
    duration: PositiveDurationS
    """How long each strike lasts."""


class Crash(_Fault):
    """A container ends, as by the kernel's or CUDA's out-of-memory; the kubelet restarts it."""

    kind: Literal["crash"]
    reason: Literal["OOMKilled", "Error"] = "OOMKilled"
    """As the pod's last state has it."""


class CrashLoop(_Lasting):
    """Containers end again and again, each time a while after their start, until the cause is gone."""

    kind: Literal["crash-loop"]
    after: DurationS = 20.0
    """From a container's start to its end."""
    reason: Literal["OOMKilled", "Error"] = "Error"


class Slow(_Lasting):
    """Steps take longer: a slow node, a lost NVLink, another tenant."""

    kind: Literal["slow"]
    factor: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """GPU time of a step, over what it should be: 2 halves the throughput."""


class Thermal(_Lasting):
    """Cooling fails: the GPU heats up with its load, and throttles above ``throttle_at`` until it has cooled down.

    The temperature follows its target, between ``idle`` and ``busy`` by the share of time in which a step ran plus
    ``rise`` while the fault lasts, with one time constant. Figures other than the threshold are our estimates.
    """

    kind: Literal["thermal"]
    throttle_at: float = 83.0
    """Degrees Celsius at which clocks fall."""
    recover_at: float = 78.0
    """Degrees Celsius at which they rise again."""
    factor: Annotated[float, Field(ge=1, le=1000)] = 3.0
    """GPU time of a step while clocks are low."""
    idle: float = 35.0
    """Degrees Celsius without load."""
    busy: float = 70.0
    """Degrees Celsius under full load."""
    rise: float = 30.0
    """Degrees that the fault adds."""
    time_constant: PositiveDurationS = 60.0
    sample: PositiveDurationS = 5.0
    """How often the temperature is brought up to date."""

    @model_validator(mode="after")
    def _cools(self) -> Thermal:
        if not self.idle <= self.busy < self.recover_at < self.throttle_at:
            raise ValueError("expected idle <= busy < recover_at < throttle_at: else the GPU never recovers")
        return self


class Partition(_Lasting):
    """The network between gateway and pods breaks.

    Streams do at once, new connections time out; the kubelet on the node still finds the pods healthy, so they stay in
    the gateway's list.
    """

    kind: Literal["partition"]
    connect_timeout: DurationS = 5.0
    """Until the gateway gives a connection up (Envoy's cluster connect_timeout: 5s)."""


Fault = Annotated[Crash | CrashLoop | Slow | Thermal | Partition, Field(discriminator="kind")]
