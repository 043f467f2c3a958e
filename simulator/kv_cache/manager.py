"""Block tables of the requests: prefix hits, allocation, caching of full blocks, release.

Follows ``vllm/v1/core/kv_cache_manager.py`` (``get_computed_blocks``, ``allocate_slots``) and
``single_type_kv_cache_manager.py`` (``FullAttentionManager``) of vLLM 0.26 and 0.32, which decide alike for a
model with one full-attention group.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from simulator.engines.protocol import ContentSegments
from simulator.kv_cache.block_pool import BlockKey, BlockPool

_NO_BLOCKS: list[int] = []

SHARED_KEY_PARTS: Final = 3
"""Keys of content that other requests may have have three parts, a request's own two: they never meet."""


class BlockTable:
    """The KV blocks of one request and the content that they hold.

    Args:
        unique_id: identity of the request's own content, different for every request of a pool.
        segments: content shared with other requests, see `simulator.engines.protocol`.
        lora: adapter id; blocks computed under different adapters never match.
    """

    __slots__ = ("blocks", "content_ends", "content_ids", "lora", "num_cached_blocks", "unique_id")

    def __init__(self, unique_id: int, segments: ContentSegments = (), lora: int | None = None) -> None:
        self.blocks: list[int] = _NO_BLOCKS
        self.num_cached_blocks = 0
        self.unique_id = unique_id
        self.content_ids = [content for content, _ in segments]
        self.content_ends = [end for _, end in segments]
        self.lora = lora

    def block_key(self, index: int, block_size: int) -> BlockKey:
        """Content of block ``index``: the segment of its last token and its place, or the request's own."""
        if not self.content_ids:
            return (self.unique_id, index)
        segment = bisect_right(self.content_ends, (index + 1) * block_size - 1)
        if segment < len(self.content_ids):
            return (self.content_ids[segment], index, self.lora)
        return (self.unique_id, index)


class KVCacheManager:
    """Allocates and caches blocks for the scheduler.

    Args:
        num_gpu_blocks: all blocks, the null block included.
        block_size: tokens in a block.
        enable_caching: vLLM's ``enable_prefix_caching``.
        watermark: share of all blocks that an admission beside running requests leaves free.
        drops_last_hit: the last block of a hit is computed again, as a drafting head (EAGLE, MTP) needs.

    Attributes:
        epoch: changes when an admission that failed could succeed: blocks were freed, or content that
            another request may share was cached.
    """

    __slots__ = ("block_size", "drops_last_hit", "enable_caching", "epoch", "pool", "watermark_blocks")

    def __init__(
        self,
        num_gpu_blocks: int,
        block_size: int,
        enable_caching: bool,
        watermark: float = 0.0,
        drops_last_hit: bool = False,
    ) -> None:
        self.pool = BlockPool(num_gpu_blocks, enable_caching)
        self.block_size = block_size
        self.enable_caching = enable_caching
        self.drops_last_hit = drops_last_hit
        self.watermark_blocks = int(watermark * num_gpu_blocks)
        self.epoch = 0

    def get_computed_blocks(self, table: BlockTable, num_tokens: int) -> list[int]:
        """Cached blocks at the start of a sequence; the last token is always left to compute."""
        if not self.enable_caching:
            return _NO_BLOCKS
        hits: list[int] = []
        for index in range((num_tokens - 1) // self.block_size):
            block = self.pool.get_cached_block(table.block_key(index, self.block_size))
            if block is None:
                break
            hits.append(block)
        if self.drops_last_hit and hits:
            hits.pop()
        return hits

    def admit(
        self,
        table: BlockTable,
        hits: list[int],
        *,
        num_computed: int,
        num_slots: int,
        num_tokens: int,
        reserve_full_isl: bool,
        beside_others: bool,
    ) -> bool:
        """Give a waiting request its hits and the blocks of its first chunk, if they are free.

        Args:
            table: the request's table, empty.
            hits: from `get_computed_blocks`.
            num_computed: tokens with KV after this step: the hits and its chunk.
            num_slots: tokens that need a slot now; more than these if drafts follow.
            num_tokens: length of the whole sequence so far.
            reserve_full_isl: require that the whole sequence fits, though only the chunk is allocated.
            beside_others: something runs already, so the watermark applies.
        """
        pool = self.pool
        must_fit = max(num_tokens, num_slots) if reserve_full_isl else num_slots
        # A hit in the free queue will leave it, so it costs a free block as a new one does.
        required = -(-must_fit // self.block_size) - len(hits) + pool.num_evictable(hits)
        if beside_others:
            required += self.watermark_blocks
        if required > pool.num_free_blocks:
            return False
        pool.touch(hits)
        table.num_cached_blocks = len(hits)
        table.blocks = hits + pool.get_new_blocks(-(-num_slots // self.block_size) - len(hits))
        self.cache_blocks(table, min(num_computed, num_tokens))
        return True

    def extend(self, table: BlockTable, num_slots: int, num_cacheable: int) -> bool:
        """Give a running request blocks for ``num_slots`` tokens; False if too few are free.

        ``num_cacheable`` is how many of them may be cached: tokens not yet sampled may not.
        """
        num_new = -(-num_slots // self.block_size) - len(table.blocks)
        if num_new > 0:
            if num_new > self.pool.num_free_blocks:
                return False
            table.blocks.extend(self.pool.get_new_blocks(num_new))
        self.cache_blocks(table, num_cacheable)
        return True

    def cache_blocks(self, table: BlockTable, num_tokens: int) -> None:
        """Cache the full blocks among the first ``num_tokens`` tokens of a sequence."""
        num_full = num_tokens // self.block_size
        if num_full <= table.num_cached_blocks or not self.enable_caching:
            return
        cache_block = self.pool.cache_block
        for index in range(table.num_cached_blocks, num_full):
            key = table.block_key(index, self.block_size)
            cache_block(table.blocks[index], key)
            if len(key) == SHARED_KEY_PARTS:
                self.epoch += 1
        table.num_cached_blocks = num_full

    def free(self, table: BlockTable) -> None:
        """Release a request's blocks, the last first, so that the tail of a prefix is evicted first."""
        if table.blocks:
            self.pool.free_blocks(reversed(table.blocks))
            table.blocks = _NO_BLOCKS
            self.epoch += 1
        table.num_cached_blocks = 0
