"""What it would have cost to have the fleet's peak all the time."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.billing.pool_meter import PoolMeter


class FleetPeak:
    """Remembers the instant with the most serving GPUs, by pool.

    Args:
        meters: of all pools; it listens to them.
    """

    def __init__(self, meters: Sequence[PoolMeter]) -> None:
        self._meters = tuple(meters)
        self.serving_gpus = tuple(meter.serving_gpus for meter in self._meters)
        for meter in self._meters:
            meter.on_serving = self._look

    def _look(self) -> None:
        serving = tuple(meter.serving_gpus for meter in self._meters)
        if sum(serving) > sum(self.serving_gpus):
            self.serving_gpus = serving

    def standing(self, now: int) -> int:
        """Micro-dollars of the nodes that hold the peak, from time 0 to an instant: provisioning for the peak."""
        return sum(
            meter.standing(gpus, now) for meter, gpus in zip(self._meters, self.serving_gpus, strict=True)
        )
