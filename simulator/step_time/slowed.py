"""Step times of a replica that is slower than it should be: a hot GPU, a lost link, a bad release."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from simulator.engines.protocol import StepTime


class SlowedStepTime:
    """A `StepTime` times a factor.

    GPU times are scaled, the host's are not. A pure decode step stays linear in the context, as the protocol wants:
    its two terms are scaled and rounded down, once each.

    Args:
        inner: the times at full speed.
        factor: how much longer steps take.
    """

    def __init__(self, inner: StepTime, factor: Fraction) -> None:
        self._inner = inner
        self._numerator, self._denominator = factor.numerator, factor.denominator

    def step_ps(
        self, decode_requests: int, decode_context_tokens: int, prefills: Sequence[tuple[int, int]]
    ) -> int:
        """GPU time of one step; see the protocol."""
        if not prefills:
            base_ps, per_token_ps = self.decode_terms(decode_requests)
            return base_ps + per_token_ps * decode_context_tokens
        whole_ps = self._inner.step_ps(decode_requests, decode_context_tokens, prefills)
        return whole_ps * self._numerator // self._denominator

    def host_ps(self, scheduled_requests: int) -> int:
        """CPU time of one step; see the protocol."""
        return self._inner.host_ps(scheduled_requests)

    def decode_terms(self, decode_requests: int) -> tuple[int, int]:
        """(base, per context token) of a pure decode step; see the protocol."""
        base_ps, per_token_ps = self._inner.decode_terms(decode_requests)
        n, d = self._numerator, self._denominator
        return base_ps * n // d, per_token_ps * n // d
