"""Books of a pool, held to a plain recount second by second."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.billing import (
    PHASES,
    Commitment,
    FleetPeak,
    PoolMeter,
    PoolRates,
    PriceSchedule,
    Statement,
    micro_usd,
    usd,
)
from simulator.units import PS_PER_S, to_ps

HOUR = 3600 * PS_PER_S
NANO = 10**9
IDLE, SERVING, STARTING = (0, 0, 1, 0), (1, 0, 0, 0), (0, 1, 0, 0)


def rates(**given: Any) -> PoolRates:
    market = PriceSchedule([(0, 36 * NANO // 10)])  # $3.60 an hour: 0.1 cent a second
    return PoolRates(
        **{"capacity": "on-demand", "gpus_per_node": 1, "market": market, "minimum_ps": 0, **given}
    )


def lines(meter: PoolMeter, now_s: float) -> dict[tuple[str, str], float]:
    cells = meter.statement(to_ps(now_s)).cells.items()
    return {cell: usd(micro) for cell, micro in cells if micro}


def test_money_goes_where_the_gpus_were() -> None:
    meter = PoolMeter(rates(), 1)
    meter.open(0, 0, STARTING)
    meter.change(0, to_ps(50), SERVING)
    meter.change(0, to_ps(150), (0, 0, 0, 1))
    meter.change(0, to_ps(180), IDLE)
    meter.close(0, to_ps(240.5))
    assert lines(meter, 1000) == {
        ("on-demand", "starting"): 0.05,
        ("on-demand", "serving"): 0.1,
        ("on-demand", "terminating"): 0.03,
        ("on-demand", "idle"): 0.0605,
        ("on-demand", "rounding"): 0.0005,
    }
    assert meter.gpu_ps(to_ps(1000))["idle"] == to_ps(60.5)


def test_a_short_life_pays_the_minimum_and_one_that_goes_on_does_not_yet() -> None:
    meter = PoolMeter(rates(minimum_ps=to_ps(60)), 1)
    meter.open(0, 0, IDLE)
    assert lines(meter, 10) == {("on-demand", "idle"): 0.01}
    meter.close(0, to_ps(10))
    assert lines(meter, 10) == {("on-demand", "idle"): 0.01, ("on-demand", "rounding"): 0.05}


def test_a_commitment_covers_the_oldest_and_is_paid_unused() -> None:
    meter = PoolMeter(rates(commitment=Commitment(1, 18 * NANO // 10)), 1)
    meter.open(0, to_ps(100), SERVING)  # covered
    meter.open(1, to_ps(200), SERVING)  # not, until the other goes
    meter.close(0, to_ps(300))
    meter.close(1, to_ps(400))
    assert lines(meter, 1000) == {
        ("reserved", "serving"): 0.15,  # 100 to 300 and 300 to 400 at half price
        ("on-demand", "serving"): 0.1,  # 200 to 300
        ("reserved", "unused_commitment"): 0.35,
    }
    assert meter.statement(to_ps(1000)).purchase("reserved") == 500_000  # all of it, whatever happened


def test_a_covered_node_is_not_rounded() -> None:
    meter = PoolMeter(rates(commitment=Commitment(1, NANO), minimum_ps=to_ps(60)), 1)
    meter.open(0, 0, IDLE)
    meter.close(0, to_ps(10))
    assert meter.statement(to_ps(10)).line("rounding") == 0


def test_node_overhead_is_by_node() -> None:
    meter = PoolMeter(rates(gpus_per_node=8, node_nano_usd_per_hour=36 * NANO // 10), 8)
    meter.open(0, 0, (8, 0, 0, 0))
    meter.open(1, to_ps(50), (8, 0, 0, 0))
    meter.close(0, to_ps(100))
    assert meter.statement(to_ps(150)).line("node_overhead") == 200_000


def test_peak_is_of_all_pools_at_one_instant() -> None:
    od, spot = PoolMeter(rates(gpus_per_node=2), 2), PoolMeter(rates(capacity="spot"), 1)
    peak = FleetPeak([od, spot])
    for node in range(3):
        spot.open(node, 0, SERVING)
    for node in range(3):
        spot.close(node, to_ps(10))
    assert peak.serving_gpus == (0, 3)
    od.open(0, to_ps(20), (2, 0, 0, 0))
    od.open(1, to_ps(20), (1, 0, 1, 0))
    spot.open(3, to_ps(20), IDLE)
    assert peak.serving_gpus == (0, 3)
    spot.change(3, to_ps(30), SERVING)
    assert peak.serving_gpus == (3, 1)
    # Two nodes of two GPUs and one of one, for 100 s.
    assert peak.standing(to_ps(100)) == 500_000


def test_standing_pays_the_commitment_first() -> None:
    meter = PoolMeter(rates(commitment=Commitment(3, 18 * NANO // 10)), 1)
    assert meter.standing(2, to_ps(100)) == 150_000
    assert meter.standing(5, to_ps(100)) == 350_000


# Per node: opened, steps of (seconds, what its two GPUs do), whether it is closed at the end.
uses = st.sampled_from([(2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 0)])
lives = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.lists(st.tuples(st.integers(0, 30), uses), min_size=1, max_size=5),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    lives=lives,
    committed=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(0, 9))),
    prices=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    minimum_s=st.integers(0, 50),
    granularity_s=st.integers(1, 40),
    overhead=st.integers(0, 5),
)
def test_every_line_is_what_a_recount_by_seconds_finds(
    lives: list[tuple[int, list[tuple[int, Any]], bool]],
    committed: tuple[int, int] | None,
    prices: list[int],
    minimum_s: int,
    granularity_s: int,
    overhead: int,
) -> None:
    until_s = 200
    unit = 36 * 10**5  # nano-dollars an hour that are one micro-dollar a second
    starts = [0, 30, 90]
    made = PoolRates(
        "spot",
        2,
        PriceSchedule([(to_ps(t), price * unit) for t, price in zip(starts, prices, strict=True)]),
        None if committed is None else Commitment(committed[0], committed[1] * unit),
        overhead * unit,
        to_ps(minimum_s),
        to_ps(granularity_s),
    )
    meter = PoolMeter(made, 2)
    lives = sorted(lives, key=lambda life: life[0])
    todo: list[tuple[int, int, str, Any]] = []
    for node, (opened, steps, closes) in enumerate(lives):
        t = opened
        todo.append((t, node, "open", steps[0][1]))
        for i, (lasts, _) in enumerate(steps):
            t += lasts
            if i + 1 < len(steps):
                todo.append((t, node, "change", steps[i + 1][1]))
        if closes:
            todo.append((t, node, "close", None))
    todo.sort(key=lambda action: action[0])  # stable: each node's own order stays

    expected: dict[tuple[str, str], int] = defaultdict(int)  # in price units times GPU-seconds
    hours = dict.fromkeys(PHASES, 0)
    present: dict[int, list[Any]] = {}  # node -> [opened, use], oldest first
    price_at = lambda t: prices[sum(start <= t for start in starts) - 1]  # noqa: E731
    actions = iter([*todo, (until_s, -1, "end", None)])
    action = next(actions)
    for second in range(until_s + 1):
        while action[0] == second and action[2] != "end":
            t, node, what, use = action
            if what == "open":
                present[node] = [second, use]
                meter.open(node, to_ps(t), use)
            elif what == "change":
                present[node][1] = use
                meter.change(node, to_ps(t), use)
            else:
                covered = committed is not None and list(present).index(node) < committed[0]
                life = second - present.pop(node)[0]
                billed = -(-max(life, minimum_s) // granularity_s) * granularity_s
                if not covered:
                    expected["spot", "rounding"] += 2 * (billed - life) * price_at(second)
                meter.close(node, to_ps(t))
            action = next(actions)
        if second == until_s:
            break
        for rank, (_, use) in enumerate(present.values()):
            covered = committed is not None and rank < committed[0]
            for phase, gpus in zip(PHASES, use, strict=True):
                hours[phase] += gpus
                if covered and committed is not None:
                    expected["reserved", phase] += gpus * committed[1]
                else:
                    expected["spot", phase] += gpus * price_at(second)
            expected["spot", "node_overhead"] += overhead
        if committed is not None:
            missing = max(0, committed[0] - len(present))
            expected["reserved", "unused_commitment"] += 2 * missing * committed[1]

    found = meter.statement(to_ps(until_s))
    assert {cell: micro for cell, micro in found.cells.items() if micro} == {
        cell: micro_usd(amount * unit * PS_PER_S) for cell, amount in expected.items() if amount
    }
    assert found.total == sum(found.line(line) for line in {line for _, line in found.cells})
    assert found.total == sum(map(found.purchase, ("on-demand", "spot", "reserved")))
    assert meter.gpu_ps(to_ps(until_s)) == {phase: count * PS_PER_S for phase, count in hours.items()}
    assert Statement.sum([found, found]).total == 2 * found.total


def test_looking_changes_nothing() -> None:
    meter = PoolMeter(rates(), 1)
    meter.open(0, 0, STARTING)
    first = meter.statement(to_ps(5))
    meter.statement(to_ps(7))
    assert meter.statement(to_ps(5)) == first
    meter.change(0, to_ps(10), SERVING)
    assert meter.statement(to_ps(10)).line("starting") == 10_000


@pytest.mark.parametrize(
    ("amount", "micro"), [(0, 0), (18 * 10**17, 1), (18 * 10**17 - 1, 0), (36 * 10**17, 1)]
)
def test_a_line_is_rounded_half_up(amount: int, micro: int) -> None:
    assert micro_usd(amount) == micro
