"""What is written down of a run while it goes on, apart from its own counts, and held against them at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.billing import usd
from simulator.simulation import Simulation
from validation.bills import bill_usd

if TYPE_CHECKING:
    from simulator.cluster.nodes import Node, Pool
    from simulator.cluster.pods import Pod
    from simulator.cluster.replica import Replica
    from simulator.records.tables import Tables

_CLOSE = 1e-9
_LINES_USD = 1e-5
"""Each line of a bill is rounded to a micro-dollar, and a pool has about ten."""


class WatchedSimulation(Simulation):
    """A simulation that notes every process that it starts.

    Attributes:
        processes: each with its pod, in the order of their starts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.processes: list[tuple[Pod, Replica]] = []
        super().__init__(*args, **kwargs)

    def _make_replica(self, pod: Pod) -> Replica:
        replica = super()._make_replica(pod)
        self.processes.append((pod, replica))
        return replica


class Books:
    """The books of a run; to be opened before it starts.

    Attributes:
        pods: every pod that was created.
        nodes: every node that was granted.
        ended: nodes in the order of their ends.
    """

    def __init__(self, simulation: WatchedSimulation) -> None:
        self.simulation = simulation
        self.pods: list[Pod] = []
        self.nodes: list[Node] = []
        self.ended: list[Node] = []
        simulation.cluster.on_pod(self.pods.append)
        for pool in simulation.cluster.pools:
            self._watch(pool)

    def _watch(self, pool: Pool) -> None:
        on_created, remove = pool.on_created, pool.remove

        def created(node: Node) -> None:
            self.nodes.append(node)
            on_created(node)

        def removed(node: Node) -> None:
            self.ended.append(node)
            remove(node)

        pool.on_created = created
        pool.remove = removed  # type: ignore[method-assign]

    def wrong(self, tables: Tables, summary: dict[str, Any]) -> list[str]:
        """Everything that does not add up."""
        return (
            self._pods()
            + self._processes()
            + self._endpoints(tables)
            + self._nodes()
            + self._money(tables, summary)
        )

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
            if pod.gone_ps is not None and pod.running:
                found.append(f"{pod.name} has gone and its container runs")
            if pod.running and (pod.node is None or pod.node.gone_ps is not None):
                found.append(f"{pod.name} runs on no node")
            node = pod.node
            if (
                pod.gone_ps is None
                and node is not None
                and node.gone_ps is None
                and pod.ordinal not in node.pods
            ):
                found.append(f"{pod.name} is bound to {node.name}, which does not hold it")
        return found

    def _processes(self) -> list[str]:
        """One that has ended holds nothing; one that lives is its pod's, and its blocks are those of its requests."""
        found = []
        for pod, replica in self.simulation.processes:
            state = replica.peek()
            if not 0 <= state.kv_blocks_used <= state.kv_blocks_total:
                found.append(f"{pod.name} holds {state.kv_blocks_used} of {state.kv_blocks_total} blocks")
            if not state.running and not state.waiting and state.kv_blocks_used:
                found.append(f"{pod.name} is idle and holds {state.kv_blocks_used} blocks")
            if state.running + state.waiting > replica.in_flight:
                found.append(
                    f"the engine of {pod.name} has {state.running + state.waiting} requests, its server "
                    f"{replica.in_flight}"
                )
            if not replica.alive and replica.in_flight:
                found.append(f"{pod.name} has ended with {replica.in_flight} attempts")
            if replica.alive and pod.gone_ps is not None:
                found.append(f"{pod.name} has gone and its process lives")
            elif replica.alive and pod.replica is not replica:
                found.append(f"{pod.name} has a process that nobody knows of")
        return found

    def _endpoints(self, tables: Tables) -> list[str]:
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
        if not (tables.attempts["outcome"] == "in-flight").any():
            held, sent = simulation.gateway.queue_length, sum(simulation.gateway.outstanding().values())
            if held or sent:
                found.append(f"no attempt is in flight, and the gateway holds {held} and has sent {sent}")
        return found

    def _nodes(self) -> list[str]:
        found = []
        held = {node.name for node in self.simulation.cluster.nodes()}
        alive = {node.name for node in self.nodes if node.gone_ps is None}
        if held != alive:
            found.append(f"nodes {sorted(held ^ alive)} are paid for and gone, or neither")
        if {node.name for node in self.ended} != {node.name for node in self.nodes} - alive:
            found.append("a node has ended twice, or not at all")
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

    def _money(self, tables: Tables, summary: dict[str, Any]) -> list[str]:
        simulation = self.simulation
        now, cluster = simulation.clock.now, simulation.cluster
        found, total_usd = [], 0.0
        for pool in cluster.pools:
            own = [node for node in self.nodes if node.pool is pool]
            lived_ps = sum((now if n.gone_ps is None else n.gone_ps) - n.created_ps for n in own)
            gpu_ps = sum(pool.meter.gpu_ps(now).values())
            if gpu_ps != lived_ps * pool.config.gpus_per_node:
                found.append(f"pool {pool.name} bills {gpu_ps} GPU-ps, its nodes lived {lived_ps} ps")
            billed_usd = usd(pool.meter.statement(now).total)
            price = summary["fleet"]["pools"][pool.name]["price"]
            own_usd = bill_usd(pool.config, price, own, [n for n in self.ended if n.pool is pool], now)
            if abs(own_usd - billed_usd) > _LINES_USD:
                found.append(f"pool {pool.name} costs ${billed_usd}, its nodes ${own_usd}")
            total_usd += billed_usd
        total_usd += usd(simulation.client.fallback_bill.micro_usd)
        shown_usd = float(tables.timeline["cost_usd"].iloc[-1])
        if abs(total_usd - shown_usd) > _CLOSE * max(1.0, total_usd):
            found.append(f"the timeline ends at ${shown_usd}, nodes and API cost ${total_usd}")
        return found
