import pytest

from simulator.draws import Draws
from simulator.engines.vllm.speculation import DrawnAcceptance


def test_acceptance_stops_at_the_first_rejected_draft() -> None:
    acceptance = DrawnAcceptance(Draws(1), [0.8, 0.5])
    counts = [acceptance.accepted(request_id, 7, 3) for request_id in range(4000)]
    shares = [sum(count >= k for count in counts) / len(counts) for k in (1, 2, 3)]
    assert shares == pytest.approx([0.8, 0.4, 0.2], abs=0.03)  # the last rate holds for the third draft


def test_the_same_position_gives_the_same_draw() -> None:
    first = DrawnAcceptance(Draws(1), [0.5])
    again = DrawnAcceptance(Draws(1), [0.5])
    assert [first.accepted(3, k, 4) for k in range(50)] == [again.accepted(3, k, 4) for k in range(50)]
    assert len({first.accepted(3, k, 4) for k in range(50)}) > 2


def test_certain_rates() -> None:
    assert DrawnAcceptance(Draws(1), [1.0]).accepted(0, 0, 5) == 5
    assert DrawnAcceptance(Draws(1), [0.0]).accepted(0, 0, 5) == 0


@pytest.mark.parametrize("rates", [[], [1.5], [0.5, -0.1]])
def test_rates_are_probabilities(rates: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^acceptance rates: must be between 0 and 1"):
        DrawnAcceptance(Draws(1), rates)
