"""What a drawn scenario has, in words: to see that everything is drawn."""

from __future__ import annotations

from typing import Any


def features(scenario: dict[str, Any]) -> set[str]:
    """Kinds of things that a scenario has."""
    engine, fleet, cluster, gateway = (scenario[key] for key in ("engine", "fleet", "cluster", "gateway"))
    clients, cold = scenario["clients"], cluster["cold_start"]
    kinds = [policy["kind"] for policy in fleet["autoscaling"]["policies"]]
    container = scenario["files"]["deployment.yaml"]["spec"]["template"]["spec"]["containers"][0]
    found = {
        f"engine {engine['engine_impl']}",
        f"vllm {engine['vllm_version']}",
        f"gpu {engine['gpu']}",
        f"initial {cluster['initial']}",
        f"provisioner {cluster['provisioner']['kind']}",
        f"start {cold['start']}",
        f"compile cache {cold['compile_cache']}",
        f"routing {gateway['routing']}",
        f"strategy {scenario['files']['deployment.yaml']['spec']['strategy']['type']}",
        *(f"policy {kind}" for kind in kinds),
        *(f"fault {fault['kind']}" for fault in scenario["faults"]),
        *(f"arrivals {entry['arrivals']['kind']}" for entry in scenario["workload"]),
        *(
            key
            for key in ("readinessProbe", "startupProbe", "livenessProbe", "lifecycle")
            if key in container
        ),
        *(
            f"{name}={value}"
            for name, value in engine["vllm"].items()
            if name not in ("model", "max-model-len")
        ),
    }
    policies = "no policy" if not kinds else "one policy" if len(kinds) == 1 else "several policies"
    having = {
        policies: True,
        "sessions": any("sessions" in entry for entry in scenario["workload"]),
        "retries": clients["retry"] is not None,
        "fallback API": clients["fallback"] is not None,
        "disruption budget": fleet["disruption_budget"] is not None,
        "deletion cost": fleet["deletion_cost"] is not None,
        "queue limit": gateway["max_outstanding_per_replica"] is not None,
        "several GPU kinds": any(pool["gpu"] not in (None, engine["gpu"]) for pool in cluster["pools"]),
        "mixed pools": len({pool["capacity"] for pool in cluster["pools"]}) == 2,
        "warm nodes": any(pool["warm_nodes"] for pool in cluster["pools"]),
        "commitment": any("commitment" in pool for pool in cluster["pools"]),
        "price changes": any(pool["price_changes"] for pool in cluster["pools"]),
        "catalogue price": any("usd_per_gpu_hour" not in pool for pool in cluster["pools"]),
        "billed by the hour": any(pool["billing"].get("granularity") == "1h" for pool in cluster["pools"]),
        "canary": any("canary" in rollout for rollout in scenario["rollouts"]),
        "rolling update": any("canary" not in rollout for rollout in scenario["rollouts"]),
        "rollback": any(rollout["rollback"] for rollout in scenario["rollouts"]),
        "bad version": any(
            rollout["version"]["crash_after"] is not None or rollout["version"]["slowdown"] > 1
            for rollout in scenario["rollouts"]
        ),
        "spot by chance": any("mean_time_between" in pool.get("reclaim", {}) for pool in cluster["pools"]),
        "replayed spot": any("availability" in zone for zone in cluster["zones"]),
        "mass events": any("mass_events" in zone for zone in cluster["zones"]),
        "stock-outs": any("stock_outs" in zone for zone in cluster["zones"]),
    }
    return found | {name for name, has in having.items() if has}
