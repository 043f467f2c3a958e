"""A whole scenario: its parts, drawn so that they fit together."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from validation.random_scenarios.autoscaling import draw_autoscaling
from validation.random_scenarios.capacity import draw_pools, draw_zones
from validation.random_scenarios.engine import draw_engine
from validation.random_scenarios.faults import draw_faults, draw_rollouts
from validation.random_scenarios.lifecycle import draw_cold_start, draw_deployment, draw_fleet
from validation.random_scenarios.traffic import draw_clients, draw_gateway, draw_workload


def draw_scenario(seed: int) -> dict[str, Any]:
    """The scenario of a seed; the files that it names are under ``files``, text or data, by file name."""
    rng = Random(f"scenario {seed}")
    files: dict[str, Any] = {}
    engine = draw_engine(rng)
    gpus = engine["vllm"]["tensor-parallel-size"]
    workload = draw_workload(rng, files)
    zones = draw_zones(rng, files)
    pools = draw_pools(rng, zones, gpus)
    fleet = draw_fleet(rng)
    files["deployment.yaml"] = draw_deployment(rng, gpus)
    fleet["deployment"] = "deployment.yaml"
    fleet["autoscaling"] = draw_autoscaling(rng, files, workload)
    return {
        "name": f"random-{seed}",
        "seed": seed,
        "duration": rng.choice(("60s", "120s", "240s")),
        "drain": rng.choice(("0s", "20s", "10m")),
        "timeline_interval": rng.choice(("1s", "7s")),
        "engine": engine,
        "fleet": fleet,
        "cluster": {
            "pools": pools,
            "zones": zones,
            "provisioner": rng.choice(
                (
                    {"kind": "direct", "back_off": "5s"},
                    {"kind": "karpenter", "back_off": "10s"},
                    {
                        "kind": "cluster-autoscaler",
                        "scan_interval": "5s",
                        "back_off": "5s",
                        "max_back_off": "20s",
                    },
                )
            ),
            "cold_start": draw_cold_start(rng),
            "initial": rng.choice(("ready", "ready", "cold")),
        },
        "gateway": draw_gateway(rng),
        "clients": draw_clients(rng),
        "workload": workload,
        "slo": {"ttft": "1s", "tpot": "50ms"},
        "faults": draw_faults(rng, [pool["name"] for pool in pools]),
        "rollouts": draw_rollouts(rng),
        "files": files,
    }


def write_scenario(scenario: dict[str, Any], folder: Path) -> Path:
    """Write a drawn scenario and its files into a folder; returns the scenario's path."""
    scenario = dict(scenario)
    for name, content in scenario.pop("files").items():
        text = content if isinstance(content, str) else _dumped(name, content)
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(_dumped(path.name, scenario), encoding="utf-8")
    return path


def _dumped(name: str, content: Any) -> str:
    return (
        json.dumps(content, indent=1) if name.endswith(".json") else yaml.safe_dump(content, sort_keys=False)
    )
