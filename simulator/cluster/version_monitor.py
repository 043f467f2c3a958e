"""How attempts fare by version: what the analysis of a rollout looks at.

It stands between clients and gateway and passes everything on; it is there only in runs with a rollout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.units import to_s

if TYPE_CHECKING:
    from simulator.attempts import Attempt, AttemptListener, GatewayPort, ReplicaPort
    from simulator.clock import Clock
    from simulator.engines.protocol import Finish
    from simulator.outcomes import Cause
    from simulator.scenario.slo import Slo


class VersionMonitor:
    """Counts good and bad attempts by version.

    Args:
        clock: the run's clock.
        gateway: what is behind it.
        slo: what good means.
        version_of: version of a pod by its name; an empty one for pods that are not known any more.
    """

    def __init__(
        self, clock: Clock, gateway: GatewayPort, slo: Slo, version_of: Callable[[str], str]
    ) -> None:
        self._clock = clock
        self._gateway = gateway
        self._slo = slo
        self._version_of = version_of
        self._listener: AttemptListener
        self._counts: dict[str, list[int]] = {}

    def connect(self, listener: AttemptListener) -> None:
        """Pass what becomes of attempts on to this listener."""
        self._listener = listener

    def take(self, version: str) -> tuple[int, int]:
        """(good, all) attempts of a version that have ended since the last call."""
        good, count = self._counts.pop(version, (0, 0))
        return good, count

    def _count(self, attempt: Attempt, good: bool) -> None:
        if attempt.pod is not None:
            counts = self._counts.setdefault(self._version_of(attempt.pod), [0, 0])
            counts[0] += good
            counts[1] += 1

    # --- towards the gateway --------------------------------------------------------------------------------

    def submit(self, attempt: Attempt) -> None:
        self._gateway.submit(attempt)

    def cancel(self, attempt: Attempt) -> int:
        """A client that gives up is an attempt that was not good."""
        self._count(attempt, False)
        return self._gateway.cancel(attempt)

    def add_endpoint(self, replica: ReplicaPort) -> None:
        self._gateway.add_endpoint(replica)

    def remove_endpoint(self, replica: ReplicaPort) -> None:
        self._gateway.remove_endpoint(replica)

    # --- towards the clients --------------------------------------------------------------------------------

    def first_token(self, attempt: Attempt, seen_ps: int) -> None:
        self._listener.first_token(attempt, seen_ps)

    def finished(self, attempt: Attempt, seen_ps: int, finish: Finish) -> None:
        self._count(attempt, self._is_good(attempt, seen_ps, finish))
        self._listener.finished(attempt, seen_ps, finish)

    def failed(self, attempt: Attempt, seen_ps: int, cause: Cause, output_tokens: int) -> None:
        self._count(attempt, False)
        self._listener.failed(attempt, seen_ps, cause, output_tokens)

    def _is_good(self, attempt: Attempt, seen_ps: int, finish: Finish) -> bool:
        slo, first_ps = self._slo, attempt.first_token_ps
        if first_ps is None:
            return False
        if slo.ttft is not None and to_s(first_ps - attempt.sent_ps) > slo.ttft:
            return False
        if slo.e2e is not None and to_s(seen_ps - attempt.sent_ps) > slo.e2e:
            return False
        gaps = finish.output_tokens - 1
        return slo.tpot is None or gaps == 0 or to_s(seen_ps - first_ps) / gaps <= slo.tpot
