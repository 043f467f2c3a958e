"""A link that transfers share fairly: a disk, a network card, memory. Exact, event by event.

Each transfer gets the same share of the link, but no more than its own limit; what one leaves over the others share
(max-min fairness). Rates change only when a transfer starts or ends, so the link computes when the next one ends and
has one callback armed for it. Bytes left are fractions: nothing is rounded but the instant of an end, up to the next
picosecond.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from simulator.units import PS_PER_S

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock


class Transfer:
    """Bytes on their way.

    Attributes:
        done: fires when the last byte is there.
        left: bytes to go, as of the link's last change.
        limit: bytes per second that it takes at most.
        rate: bytes per second that it gets now.
    """

    __slots__ = ("done", "left", "limit", "link", "rate")

    def __init__(self, link: Link, done: Event, size_bytes: int, limit: int) -> None:
        self.link = link
        self.done = done
        self.left = Fraction(size_bytes)
        self.limit = limit
        self.rate = Fraction(0)

    def finished(self) -> bool:
        """Whether the last byte is there, also at the very instant when it comes."""
        self.link.settle()
        return self.left <= 0

    def cancel(self) -> None:
        """Whoever waited has gone; the others share what is free."""
        self.link.drop(self)


class Link:
    """One link.

    Args:
        env: the run's clock.
        bytes_per_s: its capacity.
    """

    def __init__(self, env: Clock, bytes_per_s: int) -> None:
        self._env = env
        self._capacity = bytes_per_s
        self._transfers: list[Transfer] = []
        self._settled_ps = 0
        self._armed = 0

    @property
    def active(self) -> int:
        """Transfers under way."""
        return len(self._transfers)

    def transfer(self, size_bytes: int, limit_bytes_per_s: int) -> Transfer:
        """Start a transfer of at least one byte."""
        self.settle()
        transfer = Transfer(self, self._env.event(), size_bytes, limit_bytes_per_s)
        self._transfers.append(transfer)
        self._share()
        return transfer

    def drop(self, transfer: Transfer) -> None:
        """Take a transfer off; one that has ended is ignored."""
        if transfer in self._transfers:
            self.settle()
            self._transfers.remove(transfer)
            self._share()

    def settle(self) -> None:
        """Bring the bytes left up to now."""
        elapsed_ps = self._env.now - self._settled_ps
        self._settled_ps = self._env.now
        if elapsed_ps:
            for transfer in self._transfers:
                transfer.left -= transfer.rate * elapsed_ps / PS_PER_S

    def _share(self) -> None:
        free, waiting = Fraction(self._capacity), len(self._transfers)
        for transfer in sorted(self._transfers, key=lambda t: t.limit):
            transfer.rate = min(Fraction(transfer.limit), free / waiting)
            free -= transfer.rate
            waiting -= 1
        self._armed += 1
        if self._transfers:
            armed = self._armed
            wait_ps = min(-(-t.left * PS_PER_S // t.rate) for t in self._transfers)
            self._env.call_at(self._env.now + max(0, int(wait_ps)), lambda _: self._end(armed))

    def _end(self, armed: int) -> None:
        if armed != self._armed:
            return  # the rates have changed since
        self.settle()
        ended = [t for t in self._transfers if t.left <= 0]
        self._transfers = [t for t in self._transfers if t.left > 0]
        self._share()
        for transfer in ended:
            transfer.done.succeed()
