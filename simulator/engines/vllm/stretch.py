"""The time of k pure decode steps, in closed form and in integers.

Step i (from 1) of a stretch takes ``first + (i - 1) * rise`` on the GPU, as contexts grow by one token for
each request. Under async scheduling host work overlaps the GPU and the step lasts the longer of the two;
otherwise it takes their sum.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple


class StepSeries(NamedTuple):
    """Durations of consecutive decode steps, in picoseconds.

    Attributes:
        first_ps: GPU time of step 1.
        rise_ps: how much longer each step is than the one before; not negative.
        host_ps: host time of a step.
        overlapped: whether host work overlaps the GPU.
    """

    first_ps: int
    rise_ps: int
    host_ps: int
    overlapped: bool

    def gpu_ps(self, step: int) -> int:
        """GPU time of one step."""
        return self.first_ps + (step - 1) * self.rise_ps

    def gpu_total_ps(self, steps: int) -> int:
        """GPU time of the first ``steps`` steps."""
        return steps * self.first_ps + self.rise_ps * (steps * (steps - 1) // 2)

    def host_bound(self) -> int:
        """How many steps, from the first, take as long as the host."""
        if not self.overlapped or self.first_ps >= self.host_ps:
            return 0
        if self.rise_ps == 0:
            return 1 << 62
        return -((self.first_ps - self.host_ps) // self.rise_ps)

    def total_ps(self, steps: int) -> int:
        """Duration of the first ``steps`` steps."""
        if not self.overlapped:
            return steps * self.host_ps + self.gpu_total_ps(steps)
        flat = self.host_bound()
        if steps <= flat:
            return steps * self.host_ps
        if flat:
            return flat * self.host_ps + self.gpu_total_ps(steps) - self.gpu_total_ps(flat)
        return self.gpu_total_ps(steps)

    def steps_to_reach(self, duration_ps: int) -> int:
        """The fewest steps that take at least so long."""
        if duration_ps <= 0:
            return 0
        first, rise, host = self.first_ps, self.rise_ps, self.host_ps
        flat = 0
        if not self.overlapped:
            first += host
        elif first < host:
            flat = self.host_bound()
            if flat * host >= duration_ps:
                return -(-duration_ps // host)
            duration_ps -= flat * host
            first += flat * rise
        if rise == 0:
            return flat - (-duration_ps // first)
        # steps * first + rise * steps * (steps - 1) / 2 >= duration
        b = 2 * first - rise
        steps = max(0, (isqrt(b * b + 8 * rise * duration_ps) - b) // (2 * rise))
        while steps * first + rise * (steps * (steps - 1) // 2) < duration_ps:
            steps += 1
        return flat + steps
