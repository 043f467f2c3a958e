"""CPU and memory that pods use, and how metrics-server measures them: for Resource and ContainerResource metrics.

The engine's model says nothing of CPU and host memory, so usage is declared here. The defaults are our estimates for
a vLLM server (one busy engine-core process, an API server beside it, weights read through the page cache).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, Section, SizeBytes

Cores = Annotated[float, Field(ge=0)]


class ServerUsage(Section):
    """What the container that runs vLLM uses."""

    cpu_loading: Cores = 1.0
    """Cores from its start until its server listens."""
    cpu_idle: Cores = 0.1
    """Cores while it serves and no step runs."""
    cpu_busy: Cores = 1.4
    """Cores while a step runs."""
    memory: SizeBytes = 8 * 2**30
    """Working set, from its start."""


class ResourceMetrics(Section):
    """Usage of CPU and memory, and metrics-server."""

    server: ServerUsage = ServerUsage()
    other_containers: Fraction = 0.1
    """Share of its requests that every other container uses."""
    resolution: PositiveDurationS = 15.0
    """metrics-server --metric-resolution: how often it asks the kubelets; 15 s in its manifests."""
    window: PositiveDurationS = 30.0
    """Time that a CPU sample covers, rounded up to whole resolutions. A container has no sample until it has run for
    that long, and its pod none without all of its containers."""
    delay: DurationS = 1.0
    """From a measurement until the resource metrics API answers with it."""
