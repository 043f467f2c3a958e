"""The KV block pool without block ids: what the free queue holds, not which block holds it.

Decides as `simulator.kv_cache.block_pool` does, in steps whose cost does not grow with the blocks:

- a block that caches nothing is like any other, and such blocks lie before all others in the free queue
  (released ones go to its head, those with content to its tail): a count stands for them;
- content that no other request can have (the tail of a prompt without an id, what a request generates) is
  released and evicted in one piece, from its end: a run with a length stands for it. Once its request has
  ended nobody will ask for it, and neighbouring runs become one;
- content with an id is kept block by block, with reference counts and all its holders.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from simulator.engines.protocol import ContentSegments

ContentKey = tuple[object, int, int | None]
"""Content id, place in the sequence in blocks, adapter."""

_ENDLESS: Final = 1 << 62


class SharedBlock:
    """A full block that caches content with an id; in the free queue while nobody refers to it."""

    __slots__ = ("key", "ref_cnt")

    def __init__(self, key: ContentKey) -> None:
        self.key = key
        self.ref_cnt = 1


_NO_BLOCKS: Final[list[SharedBlock]] = []


class Run:
    """Consecutive blocks of one request's own content in the free queue."""

    __slots__ = ("num_blocks",)

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks


class ContentTable:
    """The cached content that one request holds or left in the free queue.

    Attributes:
        shared: its blocks of content with an id, from the first; all of them are cached.
        num_shareable: blocks of its sequence whose content has an id.
        own_run: what it left of its own content when it was preempted.
    """

    __slots__ = ("_contents", "lora", "num_shareable", "own_run", "shared", "unique_id")

    def __init__(self, unique_id: int, segments: ContentSegments, lora: int | None, block_size: int) -> None:
        self.unique_id = unique_id
        self.lora = lora
        self.shared: list[SharedBlock] = _NO_BLOCKS
        self.own_run: Run | None = None
        self.num_shareable = 0
        if segments:
            self._contents: list[tuple[object, int]] = [
                (content, end // block_size) for content, end in segments
            ]
            self.num_shareable = segments[-1][1] // block_size

    def give_ids(self) -> None:
        """From here on keep the request's own content block by block too."""
        before = self._contents if self.num_shareable else []
        self._contents = [*before, (("own", self.unique_id), _ENDLESS)]
        self.num_shareable = _ENDLESS

    def keys(self, start: int, stop: int) -> Iterator[ContentKey]:
        """Content of blocks ``start`` to ``stop`` - 1; ``stop`` is at most ``num_shareable``."""
        lora = self.lora
        for content, end in self._contents:
            last = min(end, stop)
            while start < last:
                yield (content, start, lora)
                start += 1


class ContentPool:
    """The blocks of one replica, counted.

    Args:
        num_gpu_blocks: all blocks, the null block included.
        block_size: tokens in a block.
        enable_caching: vLLM's ``enable_prefix_caching``.
        watermark: share of all blocks that an admission beside running requests leaves free.

    Attributes:
        num_free: blocks that no request holds.
    """

    __slots__ = (
        "_blank",
        "_cached",
        "_dead_tail",
        "_lru",
        "block_size",
        "enable_caching",
        "num_free",
        "num_usable",
        "watermark_blocks",
    )

    def __init__(
        self, num_gpu_blocks: int, block_size: int, enable_caching: bool, watermark: float = 0.0
    ) -> None:
        self.block_size = block_size
        self.enable_caching = enable_caching
        self.watermark_blocks = int(watermark * num_gpu_blocks)
        self.num_usable = self.num_free = self._blank = num_gpu_blocks - 1
        self._lru: OrderedDict[SharedBlock | Run, None] = OrderedDict()
        self._cached: dict[ContentKey, SharedBlock | dict[SharedBlock, None]] = {}
        self._dead_tail: Run | None = None

    def look_up(self, table: ContentTable, num_tokens: int) -> tuple[list[SharedBlock], int]:
        """Cached blocks at the start of a sequence: those with an id, and how many of its own follow.

        The last token is always left to compute.
        """
        if not self.enable_caching:
            return _NO_BLOCKS, 0
        own = table.own_run.num_blocks if table.own_run is not None else 0
        if not table.num_shareable:
            return _NO_BLOCKS, own
        stop = min((num_tokens - 1) // self.block_size, table.num_shareable)
        hits: list[SharedBlock] = []
        cached = self._cached
        for key in table.keys(0, stop):
            found = cached.get(key)
            if found is None:
                break
            hits.append(found if isinstance(found, SharedBlock) else next(iter(found)))
        # Own content is evicted before what precedes it.
        assert not own or len(hits) == table.num_shareable
        return hits, own

    def num_evictable(self, hits: Sequence[SharedBlock], own: int) -> int:
        """How many of these hits lie in the free queue."""
        return own + sum(block.ref_cnt == 0 for block in hits) if hits else own

    def touch(self, table: ContentTable, hits: list[SharedBlock], own: int) -> None:
        """Give a request its hits; those in the free queue leave it."""
        for block in hits:
            if block.ref_cnt == 0:
                del self._lru[block]
                self.num_free -= 1
            block.ref_cnt += 1
        table.shared = hits
        if own:
            assert table.own_run is not None
            del self._lru[table.own_run]
            self.num_free -= own
        table.own_run = None

    def take(self, num_blocks: int) -> None:
        """Take blocks from the head of the free queue, evicting what they cache; there must be as many."""
        self.num_free -= num_blocks
        if num_blocks <= self._blank:
            self._blank -= num_blocks
            return
        num_blocks -= self._blank
        self._blank = 0
        lru, cached = self._lru, self._cached
        while num_blocks > 0:
            entry = next(iter(lru))
            if isinstance(entry, Run):
                if entry.num_blocks > num_blocks:
                    entry.num_blocks -= num_blocks
                    return
                num_blocks -= entry.num_blocks
                entry.num_blocks = 0
                del lru[entry]
                continue
            del lru[entry]
            num_blocks -= 1
            holders = cached[entry.key]
            if holders is entry:
                del cached[entry.key]
            else:
                assert isinstance(holders, dict)
                del holders[entry]
                if not holders:
                    del cached[entry.key]

    def cache_shared(self, table: ContentTable, num_full: int) -> None:
        """Cache those of a request's first ``num_full`` blocks whose content has an id."""
        start, stop = len(table.shared), min(num_full, table.num_shareable)
        if start >= stop or not self.enable_caching:
            return
        if start == 0:
            table.shared = []
        put = self._cached.setdefault
        append = table.shared.append
        for key in table.keys(start, stop):
            block = SharedBlock(key)
            append(block)
            holders = put(key, block)
            if holders is block:
                continue
            if isinstance(holders, SharedBlock):
                self._cached[key] = {holders: None, block: None}
            else:
                holders[block] = None

    def release(self, table: ContentTable, num_blocks: int, num_cached: int, *, returns: bool) -> None:
        """Release a request's blocks, the last first.

        Args:
            table: its table.
            num_blocks: how many it holds.
            num_cached: how many of them, from the first, are full and cached.
            returns: whether it may come back and look for its own content.
        """
        if not self.enable_caching:
            self.num_free += num_blocks
            self._blank += num_blocks
            return
        shared = table.shared
        own = num_cached - len(shared)
        self._blank += num_blocks - num_cached
        self.num_free += num_blocks - len(shared)
        lru = self._lru
        if own:
            if returns:
                table.own_run = Run(own)
                lru[table.own_run] = None
            elif lru and next(reversed(lru)) is self._dead_tail:
                assert self._dead_tail is not None
                self._dead_tail.num_blocks += own
            else:
                self._dead_tail = Run(own)
                lru[self._dead_tail] = None
        if shared:
            for block in reversed(shared):
                block.ref_cnt -= 1
                if block.ref_cnt == 0:
                    lru[block] = None
                    self.num_free += 1
            table.shared = _NO_BLOCKS
