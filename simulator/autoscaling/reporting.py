"""How loops act on decisions and tell of them: every write, and every change of the reason not to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.autoscaling.decision import Decision

if TYPE_CHECKING:
    from simulator.autoscaling.autoscaler import Services


class Reporter:
    """Writes sizes or floors, and the events.

    Args:
        services: what the loop works with.
        kind: of its events.
        name: of the autoscaler.
    """

    def __init__(self, services: Services, kind: str, name: str) -> None:
        self._services = services
        self._kind = kind
        self._name = name
        self._reason = ""

    def apply(self, decision: Decision, *, floor: bool = False) -> None:
        """Write what a decision asks for, if that is another size than there is."""
        services = self._services
        size = decision.replicas
        if size is not None and floor:
            if services.floors.set(self._name, size):
                self.tell(decision.reason, decision.text, float(size))
                return
        elif size is not None and size != services.target.counts().desired:
            services.target.set_replicas(size, services.clock.now, self._name)
            self.tell(decision.reason, decision.text, float(size))
            return
        elif size is not None:
            return  # it wants what there is
        if decision.reason != self._reason and size is None:
            self.tell(decision.reason, decision.text)

    def tell(self, reason: str, text: str, value: float | None = None) -> None:
        """An event; the text becomes a sentence."""
        self._reason = reason
        sentence = text[:1].upper() + text[1:]
        services = self._services
        services.sink.event(services.clock.now, self._kind, self._name, reason, f"{sentence}.", value)
