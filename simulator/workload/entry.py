"""One entry of the scenario's workload, as the generators see it."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.draws import Draws
from simulator.scenario.workload import WorkloadConfig
from simulator.workload.request import IDS_PER_WORKLOAD


@dataclass(frozen=True)
class Entry:
    """An entry and its place in the run.

    Attributes:
        config: the schema's section.
        index: its place in the scenario's list.
        draws: the run's draws.
        start_ps: when it begins, on the run's clock.
        end_ps: nothing of it arrives at or after this time.
    """

    config: WorkloadConfig
    index: int
    draws: Draws
    start_ps: int
    end_ps: int

    @property
    def key(self) -> str:
        return f"workload.{self.index}"

    def purpose(self, what: str) -> str:
        return f"workload/{self.config.name}/{what}"

    def global_id(self, number: int) -> int:
        """Id in the run of the entry's request or session of that number."""
        return self.index * IDS_PER_WORKLOAD + number

    def max_tokens(self, output_tokens: int) -> int | None:
        cap = self.config.max_tokens
        return output_tokens if cap == "output" else cap
