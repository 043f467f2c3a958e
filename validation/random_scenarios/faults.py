"""What goes wrong: every kind of fault in every scenario, and versions that are slow, crash or are called back."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

_KINDS = ("crash", "crash-loop", "slow", "thermal", "partition")


def draw_faults(rng: Random, pools: Sequence[str]) -> list[dict[str, Any]]:
    """The scenario's ``faults``: one of each kind."""
    return [_fault(rng, kind, pools) for kind in _KINDS]


def _fault(rng: Random, kind: str, pools: Sequence[str]) -> dict[str, Any]:
    one = rng.choice
    fault: dict[str, Any] = {
        "kind": kind,
        "pods": one((1, 2, "50%", "100%")),
        "pool": one((None, None, None, *pools)),
    }
    if rng.random() < 0.5:
        fault["mean_time_between"] = one((15, 60))
    else:
        fault["at"] = sorted(round(rng.uniform(0, 100), 3) for _ in range(rng.randint(1, 3)))
    if kind != "crash":
        fault["duration"] = one(("3s", "25s"))
    match kind:
        case "crash":
            fault["reason"] = one(("OOMKilled", "Error"))
        case "crash-loop":
            fault["after"] = one(("0s", "2s", "8s"))
        case "slow":
            fault["factor"] = one((1.5, 4, 20))
        case "thermal":
            fault.update(rise=60, time_constant=one((2, 10)), sample=one((0.7, 3)), factor=one((2, 5)))
        case "partition":
            fault["connect_timeout"] = one(("0s", "1s", "5s"))
    return fault


def draw_rollouts(rng: Random) -> list[dict[str, Any]]:
    """The scenario's ``rollouts``: none, one or two."""
    one = rng.choice
    rollouts = []
    for index in range(one((0, 1, 1, 2))):
        rollout: dict[str, Any] = {
            "at": 10 + 30 * index,
            "version": {
                "name": f"v{index + 2}",
                "new_image": one((True, False)),
                "slowdown": one((1, 1, 10)),
                "crash_after": one((None, None, "0s", "3s")),
                "vllm": one(
                    (
                        {},
                        {"enforce-eager": True, "max-num-seqs": 4},
                        {"num-gpu-blocks-override": 300, "enable-prefix-caching": True},
                    )
                ),
            },
            "min_ready": one((None, "2s")),
            "rollback": one((None, {"interval": "5s", "min_attempts": 3})),
        }
        if rng.random() < 0.5:
            rollout["canary"] = [{"weight": 0.2, "hold": "5s"}, {"weight": 0.6, "hold": "10s"}][
                : rng.randint(1, 2)
            ]
        else:
            rollout["max_surge"] = one((None, 1, "100%"))
            rollout["max_unavailable"] = one((None, 0, 1))
        rollouts.append(rollout)
    return rollouts
