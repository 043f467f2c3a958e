from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulator.draws import Draws


@given(st.integers(0, 2**40), st.integers(0, 100), st.sampled_from(["a", "b"]))
def test_a_draw_depends_on_its_address_alone(entity, attempt, purpose):
    one, other = Draws(7), Draws(7)
    other.uniforms("b", 3, 5)  # what was drawn before must not matter
    assert one.uniform(purpose, entity, attempt) == other.uniform(purpose, entity, attempt)


def test_a_range_of_entities_equals_their_single_draws():
    draws = Draws(1)
    block = draws.uniforms("arrival", 10, 4, attempt=2)
    for row in range(4):
        for word in range(4):
            assert block[row, word] == draws.uniform("arrival", 10 + row, 2, word)


def test_a_sequence_is_the_draws_of_one_entity_after_the_other():
    draws = Draws(3)
    drawn = list(islice(draws.sequence("pass"), 300))
    assert drawn == [draws.uniform("pass", entity) for entity in range(300)]


def test_seed_replication_purpose_entity_and_attempt_all_change_the_draw():
    values = {
        Draws(1).uniform("p", 1, 1),
        Draws(2).uniform("p", 1, 1),
        Draws(1, replication=1).uniform("p", 1, 1),
        Draws(1).uniform("q", 1, 1),
        Draws(1).uniform("p", 2, 1),
        Draws(1).uniform("p", 1, 2),
        Draws(1).uniform("p", 1, 1, word=1),
    }
    assert len(values) == 7


def test_draws_are_uniform_and_strictly_inside_the_unit_interval():
    sample = Draws(3).uniforms("u", 0, 20_000).ravel()
    assert sample.min() > 0
    assert sample.max() < 1
    assert stats.kstest(sample, "uniform").pvalue > 0.001


def test_words_of_one_address_are_uncorrelated():
    block = Draws(3).uniforms("u", 0, 20_000)
    correlation = np.corrcoef(block.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.03


def test_exponential_and_normal_have_their_moments():
    draws = Draws(5)
    exponential = np.array([draws.exponential("e", i) for i in range(4000)])
    normal = np.array([draws.normal("n", i) for i in range(4000)])
    assert abs(exponential.mean() - 1) < 4 / np.sqrt(4000)
    assert abs(normal.mean()) < 4 / np.sqrt(4000)
    assert abs(normal.std() - 1) < 0.05
