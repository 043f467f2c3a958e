"""The requests that decode, as sums: what one more step, or k of them, does to all without touching any.

Each takes one token in every step. So in step k (steps are numbered by schedule) the contexts sum to
``base_sum + n * (k - 1)``, the requests that need a block are those with the right residue of context
modulo block size, and the next change is at the top of a heap.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from simulator.engines.vllm.sequence import DECODING, LAST_TOKEN, Sequence, without

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled


class DecodeSet:
    """Decoding requests of one engine.

    Attributes:
        n: how many.
        base_sum: their ``Sequence.base``, summed.
        longest_base: the largest of them, that of the longest context; of no meaning without a member.
        weights: how many by workload. Never changed, but replaced.
        finish_keys: heap of the outputs that may bring a last token.
        last_keys: heap of the schedules that may have to pass over a request, whose last token is in flight.
        cachings: heap of the steps that may cache a block of content that others may share, with its request.
    """

    __slots__ = (
        "_async",
        "_bases",
        "_block_size",
        "_finishing",
        "_last_tokens",
        "_longest",
        "_need",
        "base_sum",
        "cachings",
        "finish_keys",
        "last_keys",
        "longest_base",
        "n",
        "weights",
    )

    def __init__(self, block_size: int, async_scheduling: bool) -> None:
        self._block_size: i64 = block_size
        self._async = async_scheduling
        self.n: i64 = 0
        self.base_sum: i64 = 0
        self.longest_base: i64 = 0
        # How many have each base, and a heap of the bases, negated; those that nobody has any more leave it late.
        self._bases: dict[int, int] = {}
        self._longest: list[int] = []
        self.weights: dict[int, int] = {}
        # Requests that need a block in step k, by k modulo block size.
        self._need = [0] * block_size
        self.finish_keys: list[int] = []
        self._finishing: dict[int, list[Sequence]] = {}
        self.last_keys: list[int] = []
        self._last_tokens: dict[int, list[Sequence]] = {}
        self.cachings: list[tuple[int, int, Sequence]] = []

    # --- members ----------------------------------------------------------------------------------------

    def join(self, seq: Sequence, step: i64, computed: i64) -> None:
        """A request whose step ``step`` computes it up to ``computed`` tokens and samples one."""
        base = computed - step
        seq.base = base
        seq.joined = step
        seq.status = DECODING
        self.n += 1
        self.base_sum += base
        bases = self._bases
        count = bases.get(base)
        if count is None:
            heappush(self._longest, -base)
            bases[base] = 1
            self.longest_base = -self._longest[0]
        else:
            bases[base] = count + 1
        self._need[(1 - base) % self._block_size] += 1
        weights = self.weights = self.weights.copy()
        weights[seq.workload] = weights.get(seq.workload, 0) + 1
        finish_at = seq.finish_at = seq.final_tokens - base - 1
        finishing = self._finishing.get(finish_at)
        if finishing is None:
            self._finishing[finish_at] = [seq]
            heappush(self.finish_keys, finish_at)
        else:
            finishing.append(seq)
        if self._async and seq.final_tokens == seq.length_limit:
            last = self._last_tokens.get(finish_at + 1)
            if last is None:
                self._last_tokens[finish_at + 1] = [seq]
                heappush(self.last_keys, finish_at + 1)
            else:
                last.append(seq)
        if seq.num_shareable > seq.num_shared:
            self._push_caching(seq)

    def leave(self, seq: Sequence) -> None:
        """A member is no longer scheduled; its place in the finishing order stays."""
        self.n -= 1
        self.base_sum -= seq.base
        bases, longest = self._bases, self._longest
        bases[seq.base] -= 1
        if seq.base == self.longest_base:
            while longest and not bases[-longest[0]]:
                del bases[-heappop(longest)]
            if longest:
                self.longest_base = -longest[0]
        self._need[(1 - seq.base) % self._block_size] -= 1
        self.weights = without(self.weights, seq.workload)

    # --- changes ----------------------------------------------------------------------------------------

    def finishing(self, output: i64) -> list[Sequence]:
        """Whose last token this output brings; to be asked once for every output of ``finish_keys``."""
        keys = self.finish_keys
        while keys and keys[0] < output:  # all of them have left
            del self._finishing[heappop(keys)]
        if not keys or keys[0] > output:
            return []
        heappop(keys)
        sequences = self._finishing.pop(output)
        return [s for s in sequences if s.finish_at == output and s.status in (DECODING, LAST_TOKEN)]

    def pass_over(self, step: i64) -> None:
        """Take those out that schedule ``step`` passes over."""
        keys = self.last_keys
        while keys and keys[0] <= step:
            key = heappop(keys)
            for seq in self._last_tokens.pop(key):
                if seq.status == DECODING and seq.finish_at == key - 1 == step - 1:
                    self.leave(seq)
                    seq.status = LAST_TOKEN
                    seq.computed = seq.base + key - 1

    def passed_over(self, step: i64) -> tuple[int, int]:
        """How many schedule ``step`` may pass over, and how many of them would else take a block."""
        leaving = [s for s in self._last_tokens[step] if s.status == DECODING and s.finish_at == step - 1]
        return len(leaving), sum((s.base + step - 1) % self._block_size == 0 for s in leaving)

    # --- blocks -----------------------------------------------------------------------------------------

    def blocks_needed(self, first_step: i64, steps: i64) -> i64:
        """Blocks that the steps from ``first_step`` on take."""
        block_size, need = self._block_size, self._need
        turns = steps // block_size
        blocks = turns * self.n
        index = first_step % block_size
        for _ in range(steps - turns * block_size):
            blocks += need[index]
            index += 1
            if index == block_size:
                index = 0
        return blocks

    def steps_within(self, first_step: i64, blocks: i64) -> i64:
        """How many steps from ``first_step`` on can be done with so many blocks."""
        block_size = self._block_size
        turns = blocks // self.n
        blocks -= turns * self.n
        steps = turns * block_size
        index = first_step % block_size
        while True:
            blocks -= self._need[index]
            if blocks < 0:
                return steps
            steps += 1
            index = (index + 1) % block_size

    def _push_caching(self, seq: Sequence) -> None:
        full_at = (seq.num_shared + 1) * self._block_size - seq.base + self._async
        heappush(self.cachings, (full_at, seq.order, seq))

    def cached_up_to(self, step: int) -> list[tuple[Sequence, int]]:
        """(request, full blocks) to be cached by the steps up to ``step``, in order; to be asked once."""
        cachings = self.cachings
        found = []
        while cachings and cachings[0][0] <= step:
            full_at, order, seq = heappop(cachings)
            if seq.status == DECODING and seq.order == order:
                num_full = (seq.base + full_at - self._async) // self._block_size
                found.append((seq, num_full))
                if num_full < seq.num_shareable:
                    heappush(cachings, (full_at + self._block_size, order, seq))
        return found
