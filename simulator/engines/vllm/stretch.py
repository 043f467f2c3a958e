"""The time of k pure decode steps, in closed form and in integers.

Step i (from 1) of a stretch takes ``first + (i - 1) * rise`` on the GPU, as contexts grow by one token for
each request. Under async scheduling host work overlaps the GPU and the step lasts the longer of the two;
otherwise it takes their sum.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled

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

    def __init__(self, gpu_ps: i64, rise_ps: i64, host_ps: i64, overlapped: bool) -> None:
        self.gpu_ps: i64 = gpu_ps
        self.rise_ps: i64 = rise_ps
        self.host_ps: i64 = host_ps
        self.overlapped = overlapped
        self.flat: i64 = 0
        self._flat_excess_ps: i64 = 0
        self.first_ps: i64 = gpu_ps if overlapped else gpu_ps + host_ps
        if overlapped and gpu_ps < host_ps:
            if rise_ps:
                flat = self.flat = -((gpu_ps - host_ps) // rise_ps)
                self._flat_excess_ps = flat * host_ps - self.gpu_total_ps(flat)
            else:
                self.flat = _ENDLESS

    def gpu_total_ps(self, steps: i64) -> i64:
        """GPU time of the first ``steps`` steps."""
        return steps * self.gpu_ps + self.rise_ps * (steps * (steps - 1) // 2)

    def step_ps(self, step: i64) -> i64:
        """Duration of one step."""
        return self.first_ps + (step - 1) * self.rise_ps if step > self.flat else self.host_ps

    def total_ps(self, steps: i64) -> i64:
        """Duration of the first ``steps`` steps."""
        if steps <= self.flat:
            return steps * self.host_ps
        return steps * self.first_ps + self.rise_ps * (steps * (steps - 1) // 2) + self._flat_excess_ps

    def after(self, steps: i64) -> StepSeries:
        """The series without its first steps."""
        return StepSeries(self.gpu_ps + steps * self.rise_ps, self.rise_ps, self.host_ps, self.overlapped)

    def steps_to_reach(self, duration_ps: i64) -> i64:
        """The fewest steps that take at least so long."""
        if duration_ps <= 0:
            return 0
        flat, first, rise = self.flat, self.first_ps, self.rise_ps
        if flat:
            steps = -(-duration_ps // self.host_ps)
            if steps <= flat:
                return steps
            duration_ps -= flat * self.host_ps
            first += flat * rise
        if rise == 0:
            return flat - (-duration_ps // first)
        # steps * first + rise * steps * (steps - 1) / 2 >= duration: a root in floats, then the exact one beside it.
        b, slope = float(2 * first - rise), float(rise)
        steps = int((sqrt(b * b + 8.0 * slope * float(duration_ps)) - b) / (2.0 * slope))
        while steps > 0 and (steps - 1) * first + rise * ((steps - 1) * (steps - 2) // 2) >= duration_ps:
            steps -= 1
        while steps * first + rise * (steps * (steps - 1) // 2) < duration_ps:
            steps += 1
        return flat + steps
