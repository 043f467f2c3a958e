"""How many draft tokens the target model accepts.

Under speculative decoding a step computes the next token and the drafts behind it; the output is the accepted
drafts, from the first on, and one token more. The engine asks for the number when it processes the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simulator.draws import Draws


class Acceptance(Protocol):
    """Decides how many drafts of a step are accepted."""

    def accepted(self, request_id: int, output_tokens: int, drafts: int) -> int:
        """Accepted drafts of a request that had ``output_tokens`` before the step: 0 to ``drafts``."""


class DrawnAcceptance:
    """Draft i is accepted with probability ``rates[i]`` if all before it were.

    The draw is addressed by request and output position, so two policies see the same acceptance.

    Args:
        draws: the run's draws.
        rates: conditional acceptance rate of each draft position; the last holds for those behind.

    Raises:
        ValueError: no rates, or one outside 0 to 1.
    """

    def __init__(self, draws: Draws, rates: Sequence[float]) -> None:
        if not rates or not all(0.0 <= rate <= 1.0 for rate in rates):
            raise ValueError(f"acceptance rates: must be between 0 and 1, not {list(rates)}")
        self._draws = draws
        self._rates = tuple(rates)

    def accepted(self, request_id: int, output_tokens: int, drafts: int) -> int:
        u = self._draws.uniform("draft acceptance", request_id, output_tokens)
        chance = 1.0
        for index in range(drafts):
            chance *= self._rates[min(index, len(self._rates) - 1)]
            if u >= chance:
                return index
        return drafts
