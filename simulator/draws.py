"""Counter-based random draws: the same (purpose, entity, attempt) gives the same number in every run.

Two policies that are compared must face the same traffic, the same cold start for the n-th pod and the same
reclaims, also after their histories part. A stateful stream desynchronises at the first extra draw; here each
draw is addressed by what it is for. The generator is Philox4x64-10 (Salmon et al., "Parallel Random Numbers:
As Easy as 1, 2, 3", SC 2011) as NumPy ships it: the key comes from the seed and the purpose, the counter is
(entity, attempt), and each counter value yields four 64-bit words.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

WORDS_PER_DRAW: Final = 4
"""Independent uniform numbers that one (purpose, entity, attempt) yields."""

_BLOCK: Final = 128
"""Entities of a sequence that are drawn together."""

_TWO_53: Final = 2.0**-53


class Draws:
    """Uniform draws in the open interval (0, 1), addressed by purpose, entity and attempt.

    Args:
        seed: the run's seed; replication r of a scenario uses ``Draws(seed, replication=r)``.
        replication: index of the replication.
    """

    def __init__(self, seed: int, replication: int = 0) -> None:
        self.seed = seed
        self.replication = replication
        self._keys: dict[str, NDArray[np.uint64]] = {}

    def _key(self, purpose: str) -> NDArray[np.uint64]:
        key = self._keys.get(purpose)
        if key is None:
            text = f"{self.seed}/{self.replication}/{purpose}".encode()
            digest = hashlib.blake2b(text, digest_size=16).digest()
            key = self._keys[purpose] = np.frombuffer(digest, dtype=np.uint64).copy()
        return key

    def uniforms(self, purpose: str, first_entity: int, count: int, attempt: int = 0) -> NDArray[np.float64]:
        """Draws of ``count`` consecutive entities; shape (count, 4), each in (0, 1)."""
        counter = np.array([first_entity, attempt, 0, 0], dtype=np.uint64)
        words = np.random.Philox(counter=counter, key=self._key(purpose)).random_raw(WORDS_PER_DRAW * count)
        unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * _TWO_53
        return unit.reshape(count, WORDS_PER_DRAW)

    def uniform(self, purpose: str, entity: int, attempt: int = 0, word: int = 0) -> float:
        """One draw in (0, 1); ``word`` (0 to 3) picks one of the four that the address has."""
        return float(self.uniforms(purpose, entity, 1, attempt)[0, word])

    def sequence(self, purpose: str) -> Iterator[float]:
        """`uniform` of entity 0, 1, 2 and so on without end, at a tenth of the cost."""
        for first in itertools.count(0, _BLOCK):
            yield from self.uniforms(purpose, first, _BLOCK)[:, 0].tolist()

    def exponential(self, purpose: str, entity: int, attempt: int = 0, word: int = 0) -> float:
        """One draw from the exponential distribution of mean 1."""
        return float(-np.log1p(-self.uniform(purpose, entity, attempt, word)))

    def normal(self, purpose: str, entity: int, attempt: int = 0, word: int = 0) -> float:
        """One draw from the standard normal distribution, by inversion."""
        return float(ndtri(self.uniform(purpose, entity, attempt, word)))
