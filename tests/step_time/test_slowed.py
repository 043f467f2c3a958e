"""Step times times a factor."""

from fractions import Fraction

from simulator.step_time.slowed import SlowedStepTime


class Linear:
    def step_ps(self, decodes, context, prefills):
        return 1000 + 10 * decodes + 3 * context + sum(7 * tokens for tokens, _ in prefills)

    def host_ps(self, scheduled):
        return 500

    def decode_terms(self, decodes):
        return 1000 + 10 * decodes, 3


def test_gpu_time_is_scaled_and_the_hosts_is_not():
    slowed = SlowedStepTime(Linear(), Fraction(5, 2))
    assert slowed.step_ps(2, 100, [(10, 0)]) == 1390 * 5 // 2
    assert slowed.host_ps(3) == 500


def test_a_decode_step_is_linear_in_its_context():
    slowed = SlowedStepTime(Linear(), Fraction(5, 2))
    base, per_token = slowed.decode_terms(2)
    assert (base, per_token) == (2550, 7)
    assert all(slowed.step_ps(2, c, ()) == base + per_token * c for c in (0, 1, 1000))
