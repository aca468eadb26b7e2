"""What a run was made on: figures mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from tests.support.redis_server import find_redis_server

CORES, LOAD = "cores", "load before"
BUSY = 0.5
"""Load per core above which somebody else was at work."""


def is_busy(machine: dict[str, str]) -> bool:
    """Whether the machine had something else to do just before."""
    return float(machine.get(LOAD, 0)) > BUSY * float(machine.get(CORES, 1))


def described() -> dict[str, str]:
    """Processor, cores, memory, system, Python, Redis, and how busy the machine was before we began."""
    redis_says = subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        CORES: str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _field("/proc/meminfo", "MemTotal") or "unknown",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "redis": redis_says.split(" sha=")[0].strip(),
        LOAD: f"{os.getloadavg()[0]:.2f}",
    }


def _field(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
