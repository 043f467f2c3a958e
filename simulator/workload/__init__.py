"""Traffic: arrivals × lengths × sessions, and the replay of traces."""

from simulator.workload.request import RequestSpec
from simulator.workload.source import WorkloadSource, expected_mean_rate, expected_rate

__all__ = ["RequestSpec", "WorkloadSource", "expected_mean_rate", "expected_rate"]
