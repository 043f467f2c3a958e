import pytest

from simulator.kv_cache.block_pool import BlockPool


def test_block_0_is_the_null_block_and_never_handed_out() -> None:
    pool = BlockPool(4, enable_caching=True)
    assert pool.num_usable_blocks == 3
    assert pool.get_new_blocks(3) == [1, 2, 3]
    assert pool.num_free_blocks == 0


def test_asking_for_more_than_is_free_is_an_error_and_takes_nothing() -> None:
    pool = BlockPool(4, enable_caching=True)
    with pytest.raises(ValueError, match="4 blocks asked for, 3 free"):
        pool.get_new_blocks(4)
    assert pool.num_free_blocks == 3


def test_freed_blocks_without_content_are_reused_first_and_cached_ones_last() -> None:
    pool = BlockPool(6, enable_caching=True)
    blocks = pool.get_new_blocks(3)  # 1, 2, 3; 4 and 5 stay free
    pool.cache_block(1, (7, 0))
    pool.cache_block(2, (7, 1))
    pool.free_blocks(reversed(blocks))  # 3 has no content; 2 before 1, the tail of the prefix
    assert pool.get_new_blocks(5) == [3, 4, 5, 2, 1]


def test_several_blocks_without_content_keep_their_order_at_the_head() -> None:
    pool = BlockPool(5, enable_caching=False)
    pool.free_blocks(reversed(pool.get_new_blocks(3)))
    assert pool.get_new_blocks(4) == [3, 2, 1, 4]


def test_a_hit_leaves_the_free_queue_and_is_not_evicted() -> None:
    pool = BlockPool(3, enable_caching=True)
    blocks = pool.get_new_blocks(2)
    pool.cache_block(1, (7, 0))
    pool.free_blocks(reversed(blocks))
    assert pool.num_evictable([1]) == 1
    pool.touch([1])
    assert pool.num_evictable([1]) == 0
    assert pool.get_new_blocks(1) == [2]
    assert pool.get_cached_block((7, 0)) == 1


def test_allocation_evicts_content() -> None:
    pool = BlockPool(2, enable_caching=True)
    pool.get_new_blocks(1)
    pool.cache_block(1, (7, 0))
    pool.free_blocks([1])
    assert pool.get_cached_block((7, 0)) == 1
    pool.get_new_blocks(1)
    assert pool.get_cached_block((7, 0)) is None


def test_a_block_is_free_when_its_last_holder_lets_go() -> None:
    pool = BlockPool(2, enable_caching=True)
    pool.get_new_blocks(1)
    pool.touch([1])
    pool.free_blocks([1])
    assert pool.num_free_blocks == 0
    pool.free_blocks([1])
    assert pool.num_free_blocks == 1


def test_of_equal_blocks_the_first_cached_answers_until_it_is_evicted() -> None:
    pool = BlockPool(4, enable_caching=True)
    pool.get_new_blocks(3)
    for block in (2, 1, 3):
        pool.cache_block(block, (7, 0))
    assert pool.get_cached_block((7, 0)) == 2
    pool.free_blocks([2])
    assert pool.get_new_blocks(1) == [2]
    assert pool.get_cached_block((7, 0)) == 1
    pool.check([[1], [3], [2]])


def test_check_finds_a_lost_block() -> None:
    pool = BlockPool(4, enable_caching=True)
    pool.get_new_blocks(2)
    pool.check([[1, 2]])
    with pytest.raises(AssertionError):
        pool.check([[1]])
