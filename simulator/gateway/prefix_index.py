"""What a gateway remembers of the prompts it sent where: an approximate index of prefix caches.

Production gateways (the Gateway API inference extension's approximate prefix plugin, SGLang's router) cannot see
into a replica's cache. They cut prompts into blocks, chain the block hashes, and remember per replica the blocks
of what they sent there, least recently used first out. The index knows prompts only, not answers, and not what
the replica has evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from simulator.engines.protocol import EngineRequest

_OFFSET_BITS: Final = 32


def block_keys(request: EngineRequest, block_tokens: int) -> list[int]:
    """Chained keys of the prompt's full blocks, first block first.

    Two requests share the key of block i exactly if they share the prompt's content up to the end of block i. The
    content of a prefix is named by the segment that covers its last token and by its length. Tokens past the last
    segment are unique to the request, so no other request can share their keys and they get none.
    """
    keys: list[int] = []
    end = block_tokens
    prompt = request.prompt_tokens
    for content_id, segment_end in request.segments:
        base = content_id << _OFFSET_BITS
        keys.extend(range(base + end, base + min(segment_end, prompt) + 1, block_tokens))
        end = (len(keys) + 1) * block_tokens
        if end > prompt:
            break
    return keys


class PrefixIndex:
    """Blocks that each replica was sent, as bit masks of replicas.

    Args:
        blocks_per_replica: blocks remembered per replica.
    """

    def __init__(self, blocks_per_replica: int) -> None:
        self._capacity = blocks_per_replica
        self._holders: dict[int, int] = {}
        self._recent: dict[int, OrderedDict[int, None]] = {}

    def longest_match(self, keys: Iterable[int], among: int) -> tuple[int, int]:
        """The replicas that hold the longest prefix.

        Args:
            keys: a prompt's `block_keys`.
            among: bit mask of the replicas to look at.

        Returns:
            (bit mask of the replicas that share the longest match, its blocks); ``among`` and 0 without a match.
        """
        holders = self._holders
        matched = 0
        for key in keys:
            narrowed = among & holders.get(key, 0)
            if not narrowed:
                break
            among = narrowed
            matched += 1
        return among, matched

    def remember(self, bit: int, keys: Sequence[int]) -> None:
        """The replica with this bit was sent a prompt; its blocks are now its most recently used ones."""
        recent = self._recent.setdefault(bit, OrderedDict())
        holders = self._holders
        # Tail first, so that the head of a chain outlives its tail: a chain without its head matches nothing.
        for key in reversed(keys):
            if key in recent:
                recent.move_to_end(key)
            else:
                recent[key] = None
                holders[key] = holders.get(key, 0) | bit
        while len(recent) > self._capacity:
            self._drop(recent.popitem(last=False)[0], bit)

    def forget(self, bit: int) -> None:
        """The replica with this bit has gone."""
        for key in self._recent.pop(bit, ()):
            self._drop(key, bit)

    def _drop(self, key: int, bit: int) -> None:
        left = self._holders[key] & ~bit
        if left:
            self._holders[key] = left
        else:
            del self._holders[key]
