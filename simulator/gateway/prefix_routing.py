"""Routing by what a replica's prefix cache is likely to hold.

Both policies give affinity up when it costs too much: if the replica they favour has ``load_balance_abs`` more
requests in flight than the least loaded one, the least loaded gets the request (SGLang's router has the same
rule, with the same name and default).
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.attempts import Attempt, request_id_of
from simulator.engines.protocol import EngineRequest
from simulator.gateway.endpoint import Endpoint
from simulator.gateway.hash_ring import HashRing, stable_hash
from simulator.gateway.prefix_index import PrefixIndex, block_keys
from simulator.gateway.routing import LeastOutstanding


class PrefixHash:
    """Consistent hash of the prompt's first block (KubeAI's ``PrefixHash`` hashes the first characters).

    A prompt that shares its first block with no other is spread by its request's id. The next name clockwise
    takes over for one that cannot take the request.

    Args:
        virtual_nodes: points per replica on the ring.
        block_tokens: how much of the prompt is hashed.
        load_balance_abs: see the module.
    """

    def __init__(self, virtual_nodes: int, block_tokens: int, load_balance_abs: int) -> None:
        self._ring = HashRing(virtual_nodes)
        self._block_tokens = block_tokens
        self._load_balance_abs = load_balance_abs
        self._least = LeastOutstanding()

    def add(self, endpoint: Endpoint) -> None:
        self._ring.add(endpoint.name)

    def remove(self, endpoint: Endpoint) -> None:
        self._ring.remove(endpoint.name)

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        by_name = {endpoint.name: endpoint for endpoint in candidates}
        for name in self._ring.clockwise(stable_hash(self._key(attempt))):
            favoured = by_name.get(name)
            if favoured is not None:
                lowest = min(endpoint.outstanding for endpoint in candidates)
                if favoured.outstanding - lowest < self._load_balance_abs:
                    return favoured
                break
        return self._least.choose(candidates, attempt)

    def _key(self, attempt: Attempt) -> str:
        request = attempt.engine_request
        first = _first_block(request, min(self._block_tokens, request.prompt_tokens))
        return f"request {request_id_of(attempt.attempt_id)}" if first is None else f"block {first}"


def _first_block(request: EngineRequest, tokens: int) -> str | None:
    """What names the content of the first tokens; None if no other request can share them."""
    for content_id, end in request.segments:
        if end >= tokens:
            return f"{content_id}:{tokens}"
    return None


class PrefixMatch:
    """Longest match in the gateway's own `PrefixIndex`; ties by requests in flight, then by age.

    Without a match, or when affinity costs too much, the least loaded gets the request.

    Args:
        block_tokens: granularity.
        blocks_per_replica: what the index remembers per replica.
        load_balance_abs: see the module.
    """

    def __init__(self, block_tokens: int, blocks_per_replica: int, load_balance_abs: int) -> None:
        self._index = PrefixIndex(blocks_per_replica)
        self._block_tokens = block_tokens
        self._load_balance_abs = load_balance_abs
        self._least = LeastOutstanding()
        self._bits: dict[Endpoint, int] = {}

    def add(self, endpoint: Endpoint) -> None:
        taken = sum(self._bits.values())
        self._bits[endpoint] = ~taken & (taken + 1)  # lowest bit that nobody has

    def remove(self, endpoint: Endpoint) -> None:
        self._index.forget(self._bits.pop(endpoint))

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        keys = block_keys(attempt.engine_request, self._block_tokens)
        if not keys:
            return self._least.choose(candidates, attempt)
        chosen = self._favoured(candidates, keys) or self._least.choose(candidates, attempt)
        self._index.remember(self._bits[chosen], keys)
        return chosen

    def _favoured(self, candidates: Sequence[Endpoint], keys: list[int]) -> Endpoint | None:
        bits = self._bits
        among = 0
        for endpoint in candidates:
            among |= bits[endpoint]
        holders, matched = self._index.longest_match(keys, among)
        if not matched:
            return None
        favoured = min((e for e in candidates if bits[e] & holders), key=lambda e: e.outstanding)
        lowest = min(endpoint.outstanding for endpoint in candidates)
        return favoured if favoured.outstanding - lowest < self._load_balance_abs else None
