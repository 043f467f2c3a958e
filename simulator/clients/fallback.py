"""A paid API that answers what the own fleet failed: constant speed, a price, a share of errors."""

from __future__ import annotations

from typing import Final

from simulator.billing import ApiBill, ApiPrices
from simulator.draws import Draws
from simulator.scenario.clients import Fallback
from simulator.units import to_ps

ERROR_PURPOSE: Final = "clients.fallback-error"


class FallbackApi:
    """The API and its bill. Errors cost nothing; a stream that the client leaves costs what was generated.

    Args:
        section: the scenario's fallback.
        draws: the run's draws; an error is addressed by request.

    Attributes:
        bill: what it has charged so far.
    """

    def __init__(self, section: Fallback, draws: Draws) -> None:
        self._section = section
        self._draws = draws
        self.ttft_ps: Final = to_ps(section.ttft)
        self.tpot_ps: Final = to_ps(section.tpot)
        self._prices: Final = ApiPrices.of(
            section.usd_per_million_input_tokens, section.usd_per_million_output_tokens
        )
        self.bill = ApiBill()

    def errs(self, request_id: int) -> bool:
        """Whether this request fails here too; it learns so when its first token would have come."""
        rate = self._section.error_rate
        return rate > 0.0 and self._draws.uniform(ERROR_PURPOSE, request_id) < rate

    def last_token_ps(self, output_tokens: int) -> int:
        """From asking to the last token."""
        return self.ttft_ps + (output_tokens - 1) * self.tpot_ps

    def generated(self, elapsed_ps: int, output_tokens: int) -> int:
        """Tokens that have come so long after asking."""
        if elapsed_ps < self.ttft_ps:
            return 0
        if not self.tpot_ps:
            return output_tokens
        return min(output_tokens, 1 + (elapsed_ps - self.ttft_ps) // self.tpot_ps)

    def charge(self, input_tokens: int, output_tokens: int) -> None:
        """Charge for a prompt and what was generated from it."""
        bill = self.bill
        self.bill = self._prices.bill(bill.input_tokens + input_tokens, bill.output_tokens + output_tokens)
