"""A bill: every micro-dollar in exactly one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

Purchase = Literal["on-demand", "spot", "reserved"]
"""How the capacity was bought; reserved is what a commitment covers or leaves unused."""

Line = Literal["serving", "starting", "idle", "terminating", "rounding", "unused_commitment", "node_overhead"]
"""What the money for nodes went for.

serving: GPUs of ready pods. starting: nodes that are provisioned and pods that are not ready. idle: GPUs of ready nodes
without a pod (warm spares, empty nodes, GPUs that no pod fits on). terminating: pods being deleted, until their process
ends. rounding: time that is billed beyond a node's end. unused_commitment: committed nodes that are not there.
node_overhead: the adder for each node. The tokens of a paid API are a line of their own beside these.
"""

NODE_LINES: Final[tuple[Line, ...]] = (
    "serving",
    "starting",
    "idle",
    "terminating",
    "rounding",
    "unused_commitment",
    "node_overhead",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """Micro-dollars by how they were spent and what for.

    Attributes:
        cells: whole micro-dollars; every sum below is over them, so all of them agree.
    """

    cells: Mapping[tuple[Purchase, Line], int]

    @classmethod
    def sum(cls, statements: Iterable[Statement]) -> Self:
        """All of them on one bill."""
        cells: dict[tuple[Purchase, Line], int] = defaultdict(int)
        for statement in statements:
            for cell, micro in statement.cells.items():
                cells[cell] += micro
        return cls(dict(cells))

    @property
    def total(self) -> int:
        """All micro-dollars."""
        return sum(self.cells.values())

    def line(self, line: Line) -> int:
        """Micro-dollars of a line."""
        return sum(micro for (_, other), micro in self.cells.items() if other == line)

    def purchase(self, purchase: Purchase) -> int:
        """Micro-dollars for capacity that was bought so."""
        return sum(micro for (other, _), micro in self.cells.items() if other == purchase)
