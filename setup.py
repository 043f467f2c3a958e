"""Compiles the hot modules with mypyc where that can be done; the project's data is in pyproject.toml.

The compiled modules are the same Python files, run about three times as fast, with the same results to the last
byte. Without a C compiler the installation goes on with the Python files alone. ``SIMULATOR_COMPILE=0`` asks for that.
"""

import os

from setuptools import setup

ENGINE = "simulator/engines/vllm"
MODULES = [
    "simulator/attempts.py",
    "simulator/clients/arrivals.py",
    "simulator/clients/client.py",
    "simulator/clients/counters.py",
    "simulator/clients/ledger.py",
    "simulator/clients/request.py",
    "simulator/clients/retry.py",
    "simulator/clients/rows.py",
    "simulator/clients/timeouts.py",
    "simulator/clock.py",
    "simulator/cluster/replica.py",
    "simulator/engines/protocol.py",
    "simulator/gateway/endpoint.py",
    "simulator/gateway/gateway.py",
    "simulator/gateway/routing.py",
    "simulator/records/recorder.py",
    f"{ENGINE}/config.py",
    f"{ENGINE}/request_queue.py",
    f"{ENGINE}/rules.py",
    f"{ENGINE}/decode_set.py",
    f"{ENGINE}/gaps.py",
    f"{ENGINE}/quiet_rounds.py",
    f"{ENGINE}/sequence.py",
    f"{ENGINE}/skipping.py",
    f"{ENGINE}/skipping_scheduler.py",
    f"{ENGINE}/skipping_state.py",
    f"{ENGINE}/stretch.py",
    "simulator/kv_cache/content.py",
    "simulator/records/itl.py",
    "simulator/step_time/tables.py",
    "simulator/timeline.py",
]


def extensions():
    if os.environ.get("SIMULATOR_COMPILE") == "0":
        return []
    try:
        from mypyc.build import mypycify

        # The build environment lacks the project's dependencies: what comes from them stays untyped.
        flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        found = mypycify([*flags, *MODULES], group_name="simulator")
    except (ImportError, SystemExit) as reason:
        print(f"going on without compiled modules: {reason}")
        return []
    for extension in found:
        extension.optional = True  # a machine without a compiler goes on without
    return found


setup(ext_modules=extensions())
