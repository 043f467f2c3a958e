from __future__ import annotations

import pytest

from simulator.gateway.endpoint import Endpoint
from simulator.gateway.hash_ring import HashRing, stable_hash
from simulator.gateway.prefix_index import PrefixIndex, block_keys
from simulator.gateway.prefix_routing import PrefixHash, PrefixMatch
from tests.stub_replica import StubReplica, an_attempt


def endpoints(policy, *outstanding):
    made = []
    for i, count in enumerate(outstanding):
        replica = StubReplica(None, f"pod-{i}", None, None)  # type: ignore[arg-type]
        made.append(Endpoint(replica.name, i, replica, count, True))
        policy.add(made[-1])
    return made


# --- block keys -----------------------------------------------------------------------------------------


def keys(prompt, *segments, block=64):
    return block_keys(an_attempt(0, 0, prompt, segments).engine_request, block)


@pytest.mark.parametrize(
    ("prompt", "segments", "blocks"),
    [
        (256, (), 0),  # unique
        (256, ((1, 256),), 4),
        (255, ((1, 256),), 3),  # the segment runs past the prompt, into the answer
        (256, ((1, 100),), 1),  # the second block is partly unique
        (256, ((1, 10), (2, 30), (3, 70)), 1),  # segments shorter than a block
        (63, ((1, 63),), 0),
        (64, ((1, 64),), 1),
    ],
)
def test_only_full_shared_blocks_have_keys(prompt, segments, blocks):
    assert len(keys(prompt, *segments)) == len(set(keys(prompt, *segments))) == blocks


def test_keys_agree_exactly_as_far_as_the_content_does():
    one = keys(256, (1, 128), (2, 256))
    other = keys(256, (1, 128), (3, 256))
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])
    assert keys(400, (1, 128), (2, 256), (9, 400))[:4] == one  # the next turn


def test_a_block_that_two_segments_share_is_named_by_the_later_one():
    assert keys(64, (1, 10), (2, 64)) != keys(64, (1, 10), (3, 64))


# --- index ----------------------------------------------------------------------------------------------


def test_longest_match_narrows_to_those_that_hold_more():
    index = PrefixIndex(100)
    index.remember(0b001, [1, 2])
    index.remember(0b010, [1, 2, 3])
    index.remember(0b100, [9])
    assert index.longest_match([1, 2, 3, 4], 0b111) == (0b010, 3)
    assert index.longest_match([1, 2, 7], 0b111) == (0b011, 2)
    assert index.longest_match([1, 2, 3], 0b101) == (0b001, 2)  # the best one is not to be looked at
    assert index.longest_match([5], 0b111) == (0b111, 0)


def test_least_recently_used_blocks_go_first_and_tails_before_heads():
    index = PrefixIndex(4)
    index.remember(1, [1, 2, 3])
    index.remember(1, [10, 11])  # 5 blocks: 3, the tail of the older prompt, goes
    assert index.longest_match([1, 2, 3], 1) == (1, 2)
    assert index.longest_match([10, 11], 1) == (1, 2)
    index.remember(1, [1, 2])  # used again
    index.remember(1, [20])  # 11 goes
    assert index.longest_match([10, 11], 1) == (1, 1)
    assert index.longest_match([1, 2], 1) == (1, 2)


def test_forgetting_a_replica_leaves_the_others():
    index = PrefixIndex(10)
    index.remember(1, [1, 2])
    index.remember(2, [1])
    index.forget(1)
    index.forget(4)  # never remembered
    assert index.longest_match([1, 2], 0b11) == (2, 1)
    assert index._holders == {1: 2}


# --- ring -----------------------------------------------------------------------------------------------


def owners(ring, n=3000):
    return [next(ring.clockwise(stable_hash(str(i)))) for i in range(n)]


def test_a_new_name_takes_keys_only_for_itself():
    ring = HashRing(100)
    for name in "abcd":
        ring.add(name)
    before = owners(ring)
    ring.add("e")
    after = owners(ring)
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {"e"}
    assert 0.1 < len(moved) / len(before) < 0.3  # about 1/5
    ring.remove("e")
    assert owners(ring) == before


def test_clockwise_yields_each_name_once():
    ring = HashRing(10)
    for name in "abc":
        ring.add(name)
    assert sorted(ring.clockwise(123)) == list("abc")
    assert list(HashRing(10).clockwise(5)) == []


# --- policies -------------------------------------------------------------------------------------------


def test_prefix_hash_sends_a_prefix_to_one_place_until_that_is_too_loaded():
    policy = PrefixHash(100, 64, load_balance_abs=4)
    candidates = endpoints(policy, 0, 0, 0, 0)
    home = {policy.choose(candidates, an_attempt(i, 0, 256, ((7, 256),))) for i in range(20)}
    assert len(home) == 1
    (favoured,) = home
    favoured.outstanding = 3
    assert policy.choose(candidates, an_attempt(50, 0, 999, ((7, 64),))) is favoured  # first block decides
    favoured.outstanding = 4
    assert policy.choose(candidates, an_attempt(51, 0, 256, ((7, 256),))) is not favoured


def test_prefix_hash_moves_on_clockwise_and_comes_back():
    policy = PrefixHash(100, 64, 32)
    candidates = endpoints(policy, 0, 0, 0)
    attempt = an_attempt(0, 0, 256, ((7, 256),))
    home = policy.choose(candidates, attempt)
    rest = [endpoint for endpoint in candidates if endpoint is not home]
    second = policy.choose(rest, attempt)  # full, but still on the ring
    policy.remove(home)
    assert policy.choose(rest, attempt) is second
    policy.add(home)
    assert policy.choose(candidates, attempt) is home


def test_prefix_hash_spreads_what_shares_nothing_and_keeps_short_prompts_together():
    policy = PrefixHash(100, 64, 32)
    candidates = endpoints(policy, 0, 0, 0)
    assert {policy.choose(candidates, an_attempt(i)).name for i in range(50)} == {"pod-0", "pod-1", "pod-2"}
    assert len({policy.choose(candidates, an_attempt(i, 0, 20, ((7, 30),))) for i in range(20)}) == 1


def test_prefix_match_follows_the_longest_match_until_that_is_too_loaded():
    policy = PrefixMatch(64, 1000, load_balance_abs=4)
    first, second, third = endpoints(policy, 0, 0, 0)
    everyone = [first, second, third]
    turn = ((7, 128), (8, 256))
    assert policy.choose(everyone, an_attempt(0, 0, 256, turn)) is first  # no match: least outstanding
    first.outstanding = 3
    assert policy.choose(everyone, an_attempt(1, 0, 256, turn)) is first
    assert policy.choose(everyone, an_attempt(2, 0, 256)) is second  # shares nothing
    first.outstanding = 4
    assert policy.choose(everyone, an_attempt(3, 0, 256, turn)) is third
    first.outstanding = 1
    assert policy.choose(everyone, an_attempt(4, 0, 256, turn)) is third  # both hold it all: fewer in flight
    policy.remove(third)
    assert policy.choose([first, second], an_attempt(5, 0, 256, turn)) is first


def test_prefix_match_reuses_the_bits_of_those_that_left():
    policy = PrefixMatch(64, 1000, 32)
    first, second = endpoints(policy, 0, 0)
    policy.choose([first], an_attempt(0, 0, 128, ((7, 128),)))
    policy.remove(first)
    policy.add(first)  # it has forgotten
    second.outstanding, first.outstanding = 0, 1
    assert policy.choose([second, first], an_attempt(1, 0, 128, ((7, 128),))) is second
    assert policy._bits == {second: 2, first: 1}
