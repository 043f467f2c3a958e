"""Paged KV block pool with vLLM's eviction order and prefix cache.

Follows vLLM 0.32 ``vllm/v1/core/block_pool.py`` (``BlockPool``, ``BlockHashToBlockMap``) and
``kv_cache_utils.py`` (``FreeKVCacheBlockQueue``):

- block 0 is the null block and is never handed out, so ``num_gpu_blocks - 1`` blocks are usable;
- allocation takes from the head of the free queue and drops the cached content of what it takes;
- a freed block with content goes to the tail (least recently used first), one without to the head;
- a cached block keeps its content while it lies in the free queue, and a hit takes it out again;
- the same content may be held by several blocks; the one cached first answers look-ups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BlockKey = tuple[int | None, ...]
"""Content of a full block and of all that precedes it (vLLM's chained block hash)."""


class BlockPool:
    """The blocks of one replica.

    Args:
        num_gpu_blocks: all blocks, the null block included; at least 2.
        enable_caching: whether full blocks are kept for prefix hits.
    """

    __slots__ = ("_cached", "_free", "_key", "_ref_cnt", "enable_caching", "num_gpu_blocks")

    def __init__(self, num_gpu_blocks: int, enable_caching: bool) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        self.enable_caching = enable_caching
        self._ref_cnt = [0] * num_gpu_blocks
        self._key: list[BlockKey | None] = [None] * num_gpu_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_gpu_blocks))
        self._cached: dict[BlockKey, int | dict[int, None]] = {}

    @property
    def num_usable_blocks(self) -> int:
        return self.num_gpu_blocks - 1

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no request holds; cached ones among them count."""
        return len(self._free)

    def get_cached_block(self, key: BlockKey) -> int | None:
        """The block that holds this content, the first cached if several do."""
        found = self._cached.get(key)
        if found is None or isinstance(found, int):
            return found
        return next(iter(found))

    def num_evictable(self, blocks: Sequence[int]) -> int:
        """How many of these blocks lie in the free queue."""
        ref_cnt = self._ref_cnt
        return sum(ref_cnt[block] == 0 for block in blocks)

    def touch(self, blocks: Sequence[int]) -> None:
        """Take a reference on cached blocks; those in the free queue leave it."""
        ref_cnt = self._ref_cnt
        for block in blocks:
            if ref_cnt[block] == 0:
                del self._free[block]
            ref_cnt[block] += 1

    def get_new_blocks(self, num_blocks: int) -> list[int]:
        """Take blocks from the head of the free queue, evicting what they cache.

        Raises:
            ValueError: fewer are free.
        """
        free = self._free
        if num_blocks > len(free):
            raise ValueError(f"{num_blocks} blocks asked for, {len(free)} free")
        keys = self._key
        blocks = []
        for _ in range(num_blocks):
            block, _none = free.popitem(last=False)
            blocks.append(block)
            self._ref_cnt[block] = 1
            if keys[block] is not None:
                self._evict(block)
        return blocks

    def _evict(self, block: int) -> None:
        key = self._key[block]
        assert key is not None
        self._key[block] = None
        holders = self._cached[key]
        if isinstance(holders, int):
            del self._cached[key]
        else:
            del holders[block]
            if not holders:
                del self._cached[key]

    def cache_block(self, block: int, key: BlockKey) -> None:
        """Give a full block its content, so that look-ups find it."""
        self._key[block] = key
        holders = self._cached.get(key)
        if holders is None:
            self._cached[key] = block
        elif isinstance(holders, int):
            self._cached[key] = {holders: None, block: None}
        else:
            holders[block] = None

    def free_blocks(self, ordered_blocks: Iterable[int]) -> None:
        """Drop a reference on each block; the first given is the first to be evicted."""
        free = self._free
        ref_cnt = self._ref_cnt
        evict_first = []
        for block in ordered_blocks:
            ref_cnt[block] -= 1
            if ref_cnt[block] == 0:
                if self._key[block] is None:
                    evict_first.append(block)
                else:
                    free[block] = None
        for block in reversed(evict_first):
            free[block] = None
            free.move_to_end(block, last=False)

    def check(self, held: Iterable[Sequence[int]]) -> None:
        """Assert that every block is free or held exactly as often as ``held`` says, and the cache agrees."""
        counts = [0] * self.num_gpu_blocks
        for blocks in held:
            for block in blocks:
                counts[block] += 1
        assert counts == self._ref_cnt, "reference counts differ from what the requests hold"
        assert set(self._free) == {b for b in range(1, self.num_gpu_blocks) if counts[b] == 0}
        cached = [b for h in self._cached.values() for b in ([h] if isinstance(h, int) else h)]
        assert sorted(cached) == [b for b, key in enumerate(self._key) if key is not None]
