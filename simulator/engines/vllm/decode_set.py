"""The requests that decode, as sums: what one more step, or k of them, does to all without touching any.

Each takes one token in every step. So in step k (steps are numbered by schedule) the contexts sum to
``base_sum + n * (k - 1)``, the requests that need a block are those with the right residue of context
modulo block size, and the next change is at the top of a heap.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush

from simulator.engines.vllm.sequence import DECODING, LAST_TOKEN, Sequence, without


class DecodeSet:
    """Decoding requests of one engine.

    Attributes:
        n: how many.
        base_sum: their ``Sequence.base``, summed.
        weights: how many by workload. Never changed, but replaced.
    """

    __slots__ = (
        "_async",
        "_block_size",
        "_cachings",
        "_finish_keys",
        "_finishing",
        "_gaps",
        "_last_keys",
        "_last_tokens",
        "_need",
        "base_sum",
        "n",
        "weights",
    )

    def __init__(self, block_size: int, async_scheduling: bool) -> None:
        self._block_size = block_size
        self._async = async_scheduling
        self.n = 0
        self.base_sum = 0
        self.weights: dict[int, int] = {}
        # Requests that need a block in step k, by k modulo block size; twice, so that slices do not wrap.
        self._need = [0] * block_size
        self._finish_keys: list[int] = []
        self._finishing: dict[int, list[Sequence]] = {}
        self._last_keys: list[int] = []
        self._last_tokens: dict[int, list[Sequence]] = {}
        self._cachings: list[tuple[int, int, Sequence]] = []
        # Largest gaps since any output: (number of the output, gap) with falling gaps.
        self._gaps: tuple[list[int], list[int]] = ([], [])

    # --- members ----------------------------------------------------------------------------------------

    def join(self, seq: Sequence, step: int, computed: int) -> None:
        """A request whose step ``step`` computes it up to ``computed`` tokens and samples one."""
        base = computed - step
        seq.base = base
        seq.joined = step
        seq.status = DECODING
        self.n += 1
        self.base_sum += base
        self._need[(1 - base) % self._block_size] += 1
        weights = self.weights = self.weights.copy()
        weights[seq.workload] = weights.get(seq.workload, 0) + 1
        finish_at = seq.finish_at = seq.final_tokens - base - 1
        finishing = self._finishing.get(finish_at)
        if finishing is None:
            self._finishing[finish_at] = [seq]
            heappush(self._finish_keys, finish_at)
        else:
            finishing.append(seq)
        if self._async and seq.final_tokens == seq.length_limit:
            last = self._last_tokens.get(finish_at + 1)
            if last is None:
                self._last_tokens[finish_at + 1] = [seq]
                heappush(self._last_keys, finish_at + 1)
            else:
                last.append(seq)
        if seq.num_shareable > len(seq.shared):
            self._push_caching(seq)

    def leave(self, seq: Sequence) -> None:
        """A member is no longer scheduled; its place in the finishing order stays."""
        self.n -= 1
        self.base_sum -= seq.base
        self._need[(1 - seq.base) % self._block_size] -= 1
        self.weights = without(self.weights, seq.workload)

    # --- changes ----------------------------------------------------------------------------------------

    def next_finish(self) -> int | None:
        """Number of the next output that may bring a last token."""
        return self._finish_keys[0] if self._finish_keys else None

    def finishing(self, output: int) -> list[Sequence]:
        """Whose last token this output brings; to be asked once for every output of `next_finish`."""
        keys = self._finish_keys
        while keys and keys[0] < output:  # all of them have left
            del self._finishing[heappop(keys)]
        if not keys or keys[0] > output:
            return []
        heappop(keys)
        sequences = self._finishing.pop(output)
        return [s for s in sequences if s.finish_at == output and s.status in (DECODING, LAST_TOKEN)]

    def next_last_token(self) -> int | None:
        """The next schedule that may have to pass over a request, whose last token is in flight."""
        return self._last_keys[0] if self._last_keys else None

    def pass_over(self, step: int) -> None:
        """Take those out that schedule ``step`` passes over."""
        keys = self._last_keys
        while keys and keys[0] <= step:
            key = heappop(keys)
            for seq in self._last_tokens.pop(key):
                if seq.status == DECODING and seq.finish_at == key - 1 == step - 1:
                    self.leave(seq)
                    seq.status = LAST_TOKEN
                    seq.computed = seq.base + key - 1

    # --- blocks -----------------------------------------------------------------------------------------

    def blocks_needed(self, first_step: int, steps: int) -> int:
        """Blocks that the steps from ``first_step`` on take."""
        block_size = self._block_size
        turns, rest = divmod(steps, block_size)
        start = first_step % block_size
        need = self._need
        if rest == 1:
            return turns * self.n + need[start]
        stop = start + rest
        if stop <= block_size:
            return turns * self.n + sum(need[start:stop])
        return turns * self.n + sum(need[start:]) + sum(need[: stop - block_size])

    def steps_within(self, first_step: int, blocks: int) -> int:
        """How many steps from ``first_step`` on can be done with so many blocks."""
        block_size = self._block_size
        turns, blocks = divmod(blocks, self.n)
        steps = turns * block_size
        index = first_step % block_size
        while (blocks := blocks - self._need[index]) >= 0:
            steps += 1
            index = (index + 1) % block_size
        return steps

    def _push_caching(self, seq: Sequence) -> None:
        full_at = (len(seq.shared) + 1) * self._block_size - seq.base + self._async
        heappush(self._cachings, (full_at, seq.order, seq))

    def next_caching(self) -> int | None:
        """The next step that may cache a block of content that others may share."""
        return self._cachings[0][0] if self._cachings else None

    def cached_up_to(self, step: int) -> list[tuple[Sequence, int]]:
        """(request, full blocks) to be cached by the steps up to ``step``, in order; to be asked once."""
        cachings = self._cachings
        found = []
        while cachings and cachings[0][0] <= step:
            full_at, order, seq = heappop(cachings)
            if seq.status == DECODING and seq.order == order:
                num_full = (seq.base + full_at - self._async) // self._block_size
                found.append((seq, num_full))
                if num_full < seq.num_shareable:
                    heappush(cachings, (full_at + self._block_size, order, seq))
        return found

    # --- gaps -------------------------------------------------------------------------------------------

    def add_gap(self, output: int, gap_ps: int) -> None:
        """Time between the outputs before and at ``output``."""
        outputs, gaps = self._gaps
        while gaps and gaps[-1] <= gap_ps:
            gaps.pop()
            outputs.pop()
        outputs.append(output)
        gaps.append(gap_ps)

    def max_gap_since(self, output: int) -> int:
        """The largest gap that ended after ``output``; 0 if there is none."""
        outputs, gaps = self._gaps
        index = bisect_right(outputs, output)
        return gaps[index] if index < len(gaps) else 0
