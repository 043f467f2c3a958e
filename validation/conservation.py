"""Conservation: no request, pod, node, block, token or dollar unaccounted for, in random scenarios with every fault on.

    python -m validation.conservation --scenarios 1000 --seed 0

draws scenarios over the whole schema (`validation.random_scenarios`), runs each, and holds its books against each
other:

- every request ends in one outcome, every attempt is one request's and ended once, causes add up to errors;
- every pod that was created is there or gone, every process of a pod that is gone has ended;
- the gateway sends to processes of pods that are there, or have gone no longer than the news takes;
- every node that was granted is there, released or reclaimed; a slot holds a pod that knows of it;
- node time billed is node time lived, and dollars are the sum of all nodes' bills, price by price, plus the API's;
- an engine whose requests are over holds no KV block, and never held more than there are;
- every token that an engine made is an attempt's.

It prints what the scenarios covered and those whose books do not balance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.billing import usd
from simulator.metrics.conservation import ConservationError, check_conservation
from simulator.records.recorder import Recorder
from simulator.scenario.load import load_scenario
from simulator.simulation import Simulation
from validation.random_scenarios import draw_scenario, write_scenario

if TYPE_CHECKING:
    from simulator.cluster.nodes import Node, Pool
    from simulator.cluster.pods import Pod
    from simulator.records.tables import Tables

_PS_PER_HOUR = 3600 * 10**12
_CLOSE = 1e-9
_LINES_USD = 1e-5
"""Each line of a bill is rounded to a micro-dollar, and a pool has fewer than ten, twice."""


class Books:
    """What is written down of a run while it goes on, apart from the run's own counts.

    Attributes:
        pods: every pod that was created.
        nodes: every node that was granted.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.pods: list[Pod] = []
        self.nodes: list[Node] = []
        simulation.cluster.on_pod(self.pods.append)
        for pool in simulation.cluster.pools:
            self._watch(pool)

    def _watch(self, pool: Pool) -> None:
        inner = pool.on_created

        def created(node: Node) -> None:
            self.nodes.append(node)
            inner(node)

        pool.on_created = created

    def wrong(self, tables: Tables, summary: dict[str, object]) -> list[str]:
        """Everything that does not add up."""
        found: list[str] = []
        try:
            check_conservation(tables)
        except ConservationError as error:
            found.append(str(error))
        found += (
            self._requests(tables)
            + self._pods()
            + self._endpoints()
            + self._nodes()
            + self._money(tables)
            + self._blocks()
        )
        return found

    def _requests(self, tables: Tables) -> list[str]:
        requests, attempts = tables.requests, tables.attempts
        found = []
        ended = requests["outcome"] != "in-flight"
        if not requests.loc[ended, "end_s"].notna().all() or requests.loc[~ended, "end_s"].notna().any():
            found.append("a request has an end and is in flight, or neither")
        known, made = int(attempts["output_tokens"].sum()), int(tables.timeline["output_tokens"].sum())
        in_flight = int((attempts["outcome"] == "in-flight").sum())
        if known > made or (not in_flight and known != made):
            found.append(f"engines made {made} tokens, attempts have {known}, {in_flight} are in flight")
        return found

    def _pods(self) -> list[str]:
        cluster = self.simulation.cluster
        found = []
        listed = {pod.ordinal for pod in cluster.pods()}
        alive = {pod.ordinal for pod in self.pods if pod.gone_ps is None}
        if [pod.ordinal for pod in self.pods] != list(range(cluster.deployment.created)):
            found.append(f"{len(self.pods)} pods were seen, {cluster.deployment.created} created")
        if listed != alive:
            found.append(f"pods {sorted(listed ^ alive)} are listed and gone, or neither")
        for pod in self.pods:
            replica = pod.replica
            if pod.gone_ps is not None and (pod.running or (replica is not None and replica.alive)):
                found.append(f"{pod.name} has gone and its process lives")
            if replica is not None and not replica.alive and replica.in_flight:
                found.append(f"{pod.name} has ended with {replica.in_flight} attempts")
            if pod.running and (pod.node is None or pod.node.gone_ps is not None):
                found.append(f"{pod.name} runs on no node")
        return found

    def _endpoints(self) -> list[str]:
        """The gateway may be late with what pods do, by the longest propagation there is, and no more."""
        found = []
        simulation = self.simulation
        spread = simulation.loaded.scenario.cluster.cold_start.endpoint_propagation
        late_ps = round(spread.quantile_s(1 - 1e-12) * 10**12) + 1
        by_name = {pod.name: pod for pod in self.pods}
        for endpoint in simulation.gateway.ready_endpoints():
            pod = by_name[endpoint.name]
            if pod.gone_ps is not None and simulation.clock.now - pod.gone_ps > late_ps:
                found.append(f"{pod.name} has gone and the gateway sends to it")
            if pod.endpoint == "listed" and endpoint.replica is not pod.replica:
                found.append(f"the gateway sends to a process of {pod.name} that has ended")
        return found

    def _nodes(self) -> list[str]:
        found = []
        held = {node.name for node in self.simulation.cluster.nodes()}
        alive = {node.name for node in self.nodes if node.gone_ps is None}
        if held != alive:
            found.append(f"nodes {sorted(held ^ alive)} are paid for and gone, or neither")
        for node in self.nodes:
            if node.gone_ps is None:
                if len(node.pods) > node.slots:
                    found.append(f"{node.name} holds {len(node.pods)} pods in {node.slots} slots")
                for pod in node.pods.values():
                    if pod.node is not node and pod.reserved is not node:
                        found.append(f"{pod.name} does not know that it is on {node.name}")
            for link in (node.storage, node.memory):
                if link is not None and link.active > sum(pod.running for pod in node.pods.values()):
                    found.append(f"{node.name} reads for {link.active} pods")
        for pool in self.simulation.cluster.pools:
            own = sum(node.pool is pool for node in self.nodes)
            if own != pool.created:
                found.append(f"pool {pool.name} counts {pool.created} nodes, {own} were granted")
        return found

    def _money(self, tables: Tables) -> list[str]:
        simulation = self.simulation
        now, cluster = simulation.clock.now, simulation.cluster
        found, total_usd = [], 0.0
        for pool in cluster.pools:
            own = [node for node in self.nodes if node.pool is pool]
            lived_ps = sum((now if n.gone_ps is None else n.gone_ps) - n.created_ps for n in own)
            gpu_ps = sum(pool.meter.gpu_ps(now).values())
            if gpu_ps != lived_ps * pool.config.gpus_per_node:
                found.append(f"pool {pool.name} bills {gpu_ps} GPU-ps, its nodes lived {lived_ps} ps")
            statement = pool.meter.statement(now)
            used_usd = usd(statement.total - statement.line("rounding"))
            bill_usd = sum(_bill_usd(node, now) for node in own)
            if abs(bill_usd - used_usd) > _LINES_USD:
                found.append(f"pool {pool.name} costs ${used_usd}, its nodes ${bill_usd}")
            total_usd += usd(statement.total)
        total_usd += usd(simulation.client.fallback_bill.micro_usd)
        shown_usd = float(tables.timeline["cost_usd"].iloc[-1])
        if abs(total_usd - shown_usd) > _CLOSE * max(1.0, total_usd):
            found.append(f"the timeline ends at ${shown_usd}, nodes and API cost ${total_usd}")
        return found

    def _blocks(self) -> list[str]:
        found = []
        for pod in self.pods:
            if pod.replica is None:
                continue
            state = pod.replica.peek()
            if not 0 <= state.kv_blocks_used <= state.kv_blocks_total:
                found.append(f"{pod.name} holds {state.kv_blocks_used} of {state.kv_blocks_total} blocks")
            if not state.running and not state.waiting and state.kv_blocks_used:
                found.append(f"{pod.name} is idle and holds {state.kv_blocks_used} blocks")
            if not pod.replica.alive and (state.running or state.waiting):
                found.append(f"{pod.name} has ended with {state.running + state.waiting} requests")
        return found


def _bill_usd(node: Node, now: int) -> float:
    """One node's bill from the scenario's prices, hour by hour."""
    config, until_ps = node.pool.config, now if node.gone_ps is None else node.gone_ps
    starts_ps = [0, *(round(change.at * 10**12) for change in config.price_changes), until_ps + 1]
    prices = [config.usd_per_gpu_hour or 0.0, *(change.usd_per_gpu_hour for change in config.price_changes)]
    bill = 0.0
    for start_ps, end_ps, price in zip(starts_ps, starts_ps[1:], prices, strict=False):
        lived_ps = min(end_ps, until_ps) - max(start_ps, node.created_ps)
        bill += max(0, lived_ps) / _PS_PER_HOUR * config.gpus_per_node * price
    return bill


def check(seed: int, coverage: Counter[str]) -> list[str]:
    """Draw the scenario of a seed, run it, and return what does not balance; counts what it saw."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_scenario(write_scenario(draw_scenario(seed), Path(folder)))
        recorder = Recorder([workload.name for workload in loaded.scenario.workload])
        simulation = Simulation(loaded, recorder)
        books = Books(simulation)
        summary = simulation.run()
        tables = recorder.tables()
        coverage["requests"] += len(tables.requests)
        coverage["pods"] += len(books.pods)
        coverage["nodes"] += len(books.nodes)
        coverage.update(tables.events["reason"].astype(str))
        coverage.update(cause for cause in tables.attempts["cause"].astype(str) if cause)
        return books.wrong(tables, summary)


def main() -> int:
    """Command line; the exit code is 1 if any books do not balance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    coverage: Counter[str] = Counter()
    unbalanced: list[tuple[int, str]] = []
    start = time.process_time()
    for seed in range(arguments.seed, arguments.seed + arguments.scenarios):
        unbalanced += [(seed, what) for what in check(seed, coverage)]
    print(f"{arguments.scenarios} scenarios, {time.process_time() - start:.0f} s of CPU")
    print(", ".join(f"{name} {count}" for name, count in coverage.most_common()))
    print(f"{len({seed for seed, _ in unbalanced})} scenarios do not balance")
    for seed, what in unbalanced[:20]:
        print(f"seed {seed}: {what}")
    return 1 if unbalanced else 0


if __name__ == "__main__":
    sys.exit(main())
