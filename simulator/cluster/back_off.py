"""Pauses after failures: of containers that end, and of pools that get no node. Functions of time alone."""

from __future__ import annotations

from typing import Final

from simulator.units import PS_PER_S

_FIRST_PS: Final = 10 * PS_PER_S
_LONGEST_PS: Final = 300 * PS_PER_S


class RestartBackOff:
    """The kubelet's crash-loop back-off of one container: at once, then 10 s, 20 s, ... up to 300 s.

    The pause runs from the container's end. Twice the longest pause after the last restart it starts anew. Source:
    kubelet pkg/kubelet/kuberuntime (doBackOff) and client-go util/flowcontrol/backoff.go (Next, hasExpired).
    """

    def __init__(self) -> None:
        self._pause_ps = 0
        self._restarted_ps: int | None = None

    def ended(self, now: int) -> int:
        """The container has ended; returns the pause before its restart."""
        if self._restarted_ps is None or now - self._restarted_ps > 2 * _LONGEST_PS:
            self._pause_ps = 0
            wait_ps = 0
        else:
            wait_ps = self._pause_ps
        self._pause_ps = min(max(2 * self._pause_ps, _FIRST_PS), _LONGEST_PS)
        self._restarted_ps = now + wait_ps
        return wait_ps


class RefusalBackOff:
    """A provisioner's pause before it asks a pool's zone again.

    Args:
        first_ps: pause after the first refusal.
        longest_ps: it doubles up to this; equal to ``first_ps`` for a constant pause.
        reset_ps: after so long without a refusal it starts anew.
    """

    def __init__(self, first_ps: int, longest_ps: int, reset_ps: int) -> None:
        self._first_ps = first_ps
        self._longest_ps = longest_ps
        self._reset_ps = reset_ps
        self._pause_ps = 0
        self._until_ps = 0
        self._refused_ps: int | None = None

    def holds(self, now: int) -> bool:
        """Whether the pool is not to be asked now."""
        return now < self._until_ps

    def refused(self, now: int) -> int:
        """The zone had no node; returns the pause."""
        anew = self._refused_ps is None or now - self._refused_ps >= self._reset_ps
        self._pause_ps = self._first_ps if anew else min(2 * self._pause_ps, self._longest_ps)
        self._refused_ps = now
        self._until_ps = now + self._pause_ps
        return self._pause_ps
