from typing import Any

from simulator.kv_cache.manager import BlockTable, KVCacheManager


def admit(kv: KVCacheManager, table: BlockTable, num_tokens: int, **changes: Any) -> bool:
    hits = kv.get_computed_blocks(table, num_tokens)
    arguments = {"reserve_full_isl": True, "beside_others": False, **changes}
    slots = arguments.pop("num_slots", num_tokens)
    return kv.admit(table, hits, num_computed=slots, num_slots=slots, num_tokens=num_tokens, **arguments)


def test_block_keys_name_the_segment_of_the_last_token() -> None:
    table = BlockTable(9, ((1, 6), (2, 12)))
    assert table.block_key(0, 4) == (1, 0, None)
    assert table.block_key(1, 4) == (2, 1, None)  # tokens 4 to 7: the last is in segment 2
    assert table.block_key(2, 4) == (2, 2, None)
    assert table.block_key(3, 4) == (9, 3)  # past the segments: its own


def test_adapters_do_not_share_blocks() -> None:
    segments = ((1, 8),)
    assert BlockTable(1, segments, lora=1).block_key(0, 4) != BlockTable(2, segments, lora=2).block_key(0, 4)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    kv = KVCacheManager(10, 4, enable_caching=True)
    segments = ((1, 100),)
    assert admit(kv, BlockTable(0, segments), 8)
    assert len(kv.get_computed_blocks(BlockTable(1, segments), 8)) == 1
    assert len(kv.get_computed_blocks(BlockTable(1, segments), 9)) == 2


def test_hits_end_at_the_first_missing_block() -> None:
    kv = KVCacheManager(10, 4, enable_caching=True)
    assert admit(kv, BlockTable(0, ((1, 8), (2, 16))), 16)
    assert len(kv.get_computed_blocks(BlockTable(1, ((1, 8), (3, 16))), 16)) == 2


def test_only_full_blocks_of_known_tokens_are_cached() -> None:
    kv = KVCacheManager(10, 4, enable_caching=True)
    table = BlockTable(0, ((1, 100),))
    assert admit(kv, table, 7)
    assert table.num_cached_blocks == 1
    assert kv.extend(table, num_slots=8, num_cacheable=7)  # the eighth token is not sampled yet
    assert table.num_cached_blocks == 1
    assert kv.extend(table, num_slots=9, num_cacheable=8)
    assert table.num_cached_blocks == 2


def test_without_caching_nothing_hits() -> None:
    kv = KVCacheManager(10, 4, enable_caching=False)
    segments = ((1, 100),)
    assert admit(kv, BlockTable(0, segments), 8)
    assert kv.get_computed_blocks(BlockTable(1, segments), 8) == []


def test_the_whole_sequence_must_fit_though_only_the_chunk_is_allocated() -> None:
    kv = KVCacheManager(4, 4, enable_caching=False)  # 3 usable blocks, 12 tokens
    assert not admit(kv, BlockTable(0), 13, num_slots=4)
    table = BlockTable(1)
    assert admit(kv, table, 12, num_slots=4)
    assert len(table.blocks) == 1
    assert admit(kv, BlockTable(2), 13, num_slots=4, reserve_full_isl=False)


def test_a_hit_in_the_free_queue_costs_a_free_block_and_a_held_one_does_not() -> None:
    kv = KVCacheManager(4, 4, enable_caching=True)
    holder = BlockTable(0, ((1, 8), (2, 100)))
    assert admit(kv, holder, 8)  # holds two of three blocks
    sharer = BlockTable(1, ((1, 8), (3, 100)))
    assert admit(kv, sharer, 12)  # two hits, one new block
    kv.free(holder)
    kv.free(sharer)
    assert kv.pool.num_free_blocks == 3
    assert not admit(kv, BlockTable(2, ((1, 8), (4, 100))), 16)  # two hits and two new ones


def test_the_watermark_applies_beside_others_only() -> None:
    kv = KVCacheManager(10, 4, enable_caching=False, watermark=0.25)  # 2 of 9 usable blocks
    assert kv.watermark_blocks == 2
    assert not admit(kv, BlockTable(0), 32, beside_others=True)
    assert admit(kv, BlockTable(0), 28, beside_others=True)
    kv = KVCacheManager(10, 4, enable_caching=False, watermark=0.25)
    assert admit(kv, BlockTable(0), 36)


def test_extending_beyond_the_free_blocks_fails_and_changes_nothing() -> None:
    kv = KVCacheManager(3, 4, enable_caching=True)
    table = BlockTable(0)
    assert admit(kv, table, 8)
    assert not kv.extend(table, 9, 9)
    assert len(table.blocks) == 2
    kv.pool.check([table.blocks])


def test_a_request_that_was_freed_finds_its_own_blocks_again() -> None:
    kv = KVCacheManager(10, 4, enable_caching=True)
    table = BlockTable(0)
    assert admit(kv, table, 10)
    kv.free(table)
    assert len(kv.get_computed_blocks(table, 10)) == 2
    assert kv.get_computed_blocks(BlockTable(1), 10) == []


def test_the_epoch_changes_when_blocks_are_freed_or_shared_content_is_cached() -> None:
    kv = KVCacheManager(10, 4, enable_caching=True)
    own, shared = BlockTable(0), BlockTable(1, ((1, 100),))
    epoch = kv.epoch
    assert admit(kv, own, 8)
    assert kv.epoch == epoch
    assert admit(kv, shared, 8)
    assert kv.epoch > epoch
    epoch = kv.epoch
    kv.free(own)
    assert kv.epoch > epoch
