"""What an API charges."""

from simulator.billing import ApiBill, ApiPrices


def test_tokens_times_prices() -> None:
    prices = ApiPrices.of(0.1, 0.3)
    assert prices.bill(1_000_000, 2_000_000) == ApiBill(1_000_000, 2_000_000, 700_000)
    assert prices.bill(3, 0).micro_usd == 0
    assert prices.bill(5, 0).micro_usd == 1  # half a micro-dollar is rounded up
