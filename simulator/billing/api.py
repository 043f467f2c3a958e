"""What a paid API charges: tokens times a price per million, in exact integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from simulator.billing.money import nano_usd, round_half_up

_TOKEN_PRICES_PER_MICRO_USD: Final = 1000 * 10**6
"""A token at one nano-dollar per million, so many times."""


@dataclass(frozen=True, slots=True)
class ApiPrices:
    """Nano-dollars per million tokens.

    Attributes:
        nano_usd_input: of prompts.
        nano_usd_output: of generated tokens.
    """

    nano_usd_input: int
    nano_usd_output: int

    @classmethod
    def of(cls, usd_per_million_input: float, usd_per_million_output: float) -> Self:
        """From dollars per million tokens."""
        return cls(nano_usd(usd_per_million_input), nano_usd(usd_per_million_output))

    def bill(self, input_tokens: int, output_tokens: int) -> ApiBill:
        """What so many tokens cost."""
        amount = input_tokens * self.nano_usd_input + output_tokens * self.nano_usd_output
        return ApiBill(input_tokens, output_tokens, round_half_up(amount, _TOKEN_PRICES_PER_MICRO_USD))


@dataclass(frozen=True, slots=True)
class ApiBill:
    """What an API charged.

    Attributes:
        input_tokens: that it read.
        output_tokens: that it generated.
        micro_usd: for both.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0
