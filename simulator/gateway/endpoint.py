"""A replica as the gateway keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.attempts import ReplicaPort


@dataclass(slots=True, eq=False)
class Endpoint:
    """A replica that the gateway may send to.

    Attributes:
        name: pod name.
        order: rises with every endpoint added; lists of endpoints are sorted by it.
        outstanding: attempts sent to it whose end the gateway has not seen.
        replica: where to send.
        ready: new requests may go to it.
    """

    name: str
    order: int
    replica: ReplicaPort
    outstanding: int = 0
    ready: bool = False
