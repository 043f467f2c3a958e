"""The time of k pure decode steps, in closed form and in integers.

Step i (from 1) of a stretch takes ``first + (i - 1) * rise`` on the GPU, as contexts grow by one token for
each request. Under async scheduling host work overlaps the GPU and the step lasts the longer of the two;
otherwise it takes their sum.
"""

from __future__ import annotations

from math import isqrt
from typing import Final

_ENDLESS: Final = 1 << 62


class StepSeries:
    """Durations of consecutive decode steps, in picoseconds.

    Attributes:
        gpu_ps: GPU time of step 1, positive.
        rise_ps: how much longer each step is than the one before; not negative.
        host_ps: host time of a step.
        overlapped: whether host work overlaps the GPU.
        flat: how many steps, from the first, last as long as their host work, which hides the GPU's.
        first_ps: duration of step 1, if the GPU is not hidden.
    """

    __slots__ = ("_flat_excess_ps", "first_ps", "flat", "gpu_ps", "host_ps", "overlapped", "rise_ps")

    def __init__(self, gpu_ps: int, rise_ps: int, host_ps: int, overlapped: bool) -> None:
        self.gpu_ps = gpu_ps
        self.rise_ps = rise_ps
        self.host_ps = host_ps
        self.overlapped = overlapped
        self.flat = self._flat_excess_ps = 0
        self.first_ps = gpu_ps if overlapped else gpu_ps + host_ps
        if overlapped and gpu_ps < host_ps:
            flat = self.flat = -((gpu_ps - host_ps) // rise_ps) if rise_ps else _ENDLESS
            self._flat_excess_ps = flat * host_ps - self.gpu_total_ps(flat)

    def gpu_total_ps(self, steps: int) -> int:
        """GPU time of the first ``steps`` steps."""
        return steps * self.gpu_ps + self.rise_ps * (steps * (steps - 1) // 2)

    def step_ps(self, step: int) -> int:
        """Duration of one step."""
        return self.first_ps + (step - 1) * self.rise_ps if step > self.flat else self.host_ps

    def total_ps(self, steps: int) -> int:
        """Duration of the first ``steps`` steps."""
        if steps <= self.flat:
            return steps * self.host_ps
        return steps * self.first_ps + self.rise_ps * (steps * (steps - 1) // 2) + self._flat_excess_ps

    def after(self, steps: int) -> StepSeries:
        """The series without its first steps."""
        return StepSeries(self.gpu_ps + steps * self.rise_ps, self.rise_ps, self.host_ps, self.overlapped)

    def steps_to_reach(self, duration_ps: int) -> int:
        """The fewest steps that take at least so long."""
        if duration_ps <= 0:
            return 0
        flat, first, rise = self.flat, self.first_ps, self.rise_ps
        if flat:
            if flat * self.host_ps >= duration_ps:
                return -(-duration_ps // self.host_ps)
            duration_ps -= flat * self.host_ps
            first += flat * rise
        if rise == 0:
            return flat - (-duration_ps // first)
        # steps * first + rise * steps * (steps - 1) / 2 >= duration
        b = 2 * first - rise
        steps = max(0, (isqrt(b * b + 8 * rise * duration_ps) - b) // (2 * rise))
        while steps * first + rise * (steps * (steps - 1) // 2) < duration_ps:
            steps += 1
        return flat + steps
