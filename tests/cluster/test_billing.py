"""Bills under prices that change."""

import pytest

from simulator.cluster.billing import Meter
from simulator.units import PS_PER_S

HOUR = 3600 * PS_PER_S


def test_one_price():
    meter = Meter([(0, 2.0)], 4)
    meter.close(0, HOUR)
    assert meter.node_ps([HOUR], 3 * HOUR) == 3 * HOUR
    assert meter.cost_usd([HOUR], 3 * HOUR) == 24.0


def test_prices_by_time():
    meter = Meter([(0, 1.0), (HOUR, 3.0), (2 * HOUR, 10.0)], 1)
    assert [meter.price(t) for t in (0, HOUR - 1, HOUR, 5 * HOUR)] == [1.0, 1.0, 3.0, 10.0]
    meter.close(HOUR // 2, HOUR + HOUR // 2)  # half an hour at 1, half at 3
    assert meter.cost_usd([], 5 * HOUR) == pytest.approx(2.0)
    # One that lives on from 1.5 h: half an hour at 3, then at 10.
    assert meter.cost_usd([HOUR + HOUR // 2], 3 * HOUR) == pytest.approx(2.0 + 1.5 + 10.0)
    assert meter.node_ps([HOUR + HOUR // 2], 3 * HOUR) == HOUR + HOUR + HOUR // 2


def test_a_price_change_is_in_the_clusters_bill(world):
    w = world(
        pools=[
            {"name": "od", "usd_per_gpu_hour": 3.6, "price_changes": [{"at": 100, "usd_per_gpu_hour": 36}]}
        ],
        initial="ready",
    )
    w.cluster.start(1)
    w.run(200)
    assert w.cluster.cost_usd(w.clock.now) == pytest.approx(0.1 + 1.0)
