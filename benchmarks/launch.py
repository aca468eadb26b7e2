"""The first thing that runs in a system's own environment: become its worker, or say what its adapter says of itself.

``python -m benchmarks.launch worker|describe <module>``, with BENCH_SPEC set.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from types import ModuleType

from benchmarks.systems.base import WorkerSpec


def main() -> None:
    verb, name = sys.argv[1:]
    adapter = importlib.import_module(f"benchmarks.systems.{name}")
    if verb == "describe":
        print(json.dumps(described(adapter)))
        return
    command = adapter.worker_command(WorkerSpec.from_environment())
    os.execv(sys.executable, [sys.executable, *command])  # the system's own command, under the same process id


def described(adapter: ModuleType) -> dict[str, object]:
    """The adapter's facts, as ``environment.System`` holds them."""
    return {
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in adapter.PACKAGES),
        "delivery": adapter.DELIVERY,
        "settings": adapter.SETTINGS,
        "rough_rate": adapter.ROUGH_RATE,
        "poll_s": getattr(adapter, "POLL_S", {}),
        "results_optional": adapter.RESULTS_OPTIONAL,
        "spawns_processes": adapter.SPAWNS_PROCESSES,
    }


if __name__ == "__main__":
    main()
