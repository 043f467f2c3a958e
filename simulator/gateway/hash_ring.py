"""Consistent hashing: a ring of virtual nodes.

Karger et al., "Consistent Hashing and Random Trees", STOC 1997: a key belongs to the first point clockwise from
its hash; adding or removing one of n names moves about 1/n of the keys.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator


def stable_hash(text: str) -> int:
    """A 64-bit hash that is the same in every process (Python's own hash of strings is salted)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class HashRing:
    """Names on a ring.

    Args:
        virtual_nodes: points per name; the share of keys of a name varies by about 1/sqrt(virtual_nodes).
    """

    def __init__(self, virtual_nodes: int) -> None:
        self._virtual_nodes = virtual_nodes
        self._points: list[tuple[int, str]] = []

    def add(self, name: str) -> None:
        """Put a name's points on the ring."""
        for i in range(self._virtual_nodes):
            insort(self._points, (stable_hash(f"{name}/{i}"), name))

    def remove(self, name: str) -> None:
        """Take a name's points off the ring."""
        self._points = [point for point in self._points if point[1] != name]

    def clockwise(self, key_hash: int) -> Iterator[str]:
        """Names in the order in which their first points follow ``key_hash``; each name once."""
        points = self._points
        start = bisect_left(points, (key_hash, ""))
        seen: set[str] = set()
        for i in range(len(points)):
            name = points[(start + i) % len(points)][1]
            if name not in seen:
                seen.add(name)
                yield name
