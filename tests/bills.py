"""Bills of made-up runs."""

from typing import Literal

from simulator.billing import Statement
from simulator.billing.money import PS_PER_HOUR
from simulator.metrics import PoolLedger, PriceFacts


def pool_ledger(
    name: str,
    capacity: Literal["on-demand", "spot"],
    gpu_hours: float,
    usd: float,
    started: int,
    reclaimed: int,
) -> PoolLedger:
    """A pool whose GPUs served half of their time, started a quarter and idled a quarter."""
    quarter_ps, quarter = round(gpu_hours * PS_PER_HOUR / 4), round(usd * 1e6 / 4)
    return PoolLedger(
        name,
        capacity,
        {"serving": 2 * quarter_ps, "starting": quarter_ps, "idle": quarter_ps, "terminating": 0},
        Statement(
            {
                (capacity, "serving"): 2 * quarter,
                (capacity, "starting"): quarter,
                (capacity, "idle"): quarter,
            }
        ),
        PriceFacts(usd / gpu_hours),
        started,
        reclaimed,
    )
