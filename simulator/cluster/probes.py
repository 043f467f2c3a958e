"""When a kubelet finds a starting container ready, or gives it up and restarts it.

A probe fires ``initialDelaySeconds`` after the container has started, then every ``periodSeconds``. A startup
probe holds the others back until it has succeeded once; on its success the kubelet runs the readiness probe at
once and every period from then. vLLM's ``/health`` answers from the moment that the API server listens, which is
after weights, compilation and graph capture (v0.32, entrypoints/launchers/api_server). A liveness probe that no
startup probe holds back therefore kills a vLLM that loads for longer than its failures add up to.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes"; kubelet pkg/kubelet/prober.
Left out: ``timeoutSeconds`` and the duration of the probe itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.units import to_ps


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe of a container, with the API's defaults.

    Attributes:
        initial_delay_s: initialDelaySeconds.
        period_s: periodSeconds.
        success_threshold: successes in a row that count as success; 1 for a startup probe.
        failure_threshold: failures in a row that count as failure.
    """

    initial_delay_s: float = 0.0
    period_s: float = 10.0
    success_threshold: int = 1
    failure_threshold: int = 3

    def tick_ps(self, number: int, from_ps: int) -> int:
        """Instant of the probe of this number (from 0) in a container that has started at ``from_ps``."""
        return from_ps + to_ps(self.initial_delay_s) + number * to_ps(self.period_s)

    def first_tick(self, from_ps: int, earliest_ps: int) -> int:
        """Number of the first probe at or after ``earliest_ps``."""
        late_ps = earliest_ps - self.tick_ps(0, from_ps)
        return max(0, -(-late_ps // to_ps(self.period_s)))


def given_up_ps(startup: Probe | None, liveness: Probe | None, started_ps: int) -> int | None:
    """When a container that does not answer by then is restarted; None if nothing probes it so.

    Once the server listens both probes succeed; one that answers at this very instant lives.
    """
    probe = startup or liveness
    return None if probe is None else probe.tick_ps(probe.failure_threshold - 1, started_ps)


def ready_ps(readiness: Probe | None, startup: Probe | None, started_ps: int, listening_ps: int) -> int:
    """When a container that starts at one instant and listens from another is found ready.

    Args:
        readiness: the readiness probe; without one, and without a startup probe, that is at its start.
        startup: the startup probe, if there is one; it succeeds in time.
        started_ps: when the container started.
        listening_ps: when its server answers for the first time.
    """
    if startup is None:
        if readiness is None:
            return started_ps
        first = readiness.tick_ps(readiness.first_tick(started_ps, listening_ps), started_ps)
    else:
        first = startup.tick_ps(startup.first_tick(started_ps, listening_ps), started_ps)
        if readiness is None:
            return first
        first = max(first, readiness.tick_ps(0, started_ps))
    return first + (readiness.success_threshold - 1) * to_ps(readiness.period_s)
