"""An environment per system: made when it is first needed, used again while its pinned requirements stay the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.systems.base import WorkerSpec

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = ROOT / "benchmarks" / "systems"
OURS = "ours"
INSTALL_TIMEOUT_S = 600.0


class SetupFailed(Exception):
    """A system cannot be run here; the text says why."""


@dataclass(frozen=True, slots=True)
class System:
    """A system of the benchmark, in one of its variants, ready to be started."""

    name: str
    """``saq``, or ``arq-tuned``: module and variant."""
    module: str
    variant: str
    python: Path
    versions: str
    """The pins of its requirements that name the system, e.g. ``saq 0.26.4``."""
    delivery: str
    settings: str
    rough_rate: float
    poll_s: float
    """How often a worker that polls looks for jobs; 0 for one that is told."""
    results_optional: bool
    spawns_processes: bool
    """Whether its command runs several worker processes by itself."""

    @property
    def is_ours(self) -> bool:
        return self.module == OURS


def known_modules() -> list[str]:
    """The adapters, ours first; a system's name is ``<module>``, or ``<module>-<variant>``."""
    found = [path.stem for path in SYSTEMS.glob("*.py") if path.with_suffix(".txt").exists()]
    return sorted(found, key=lambda module: (module != OURS, module))


def variants(module: str) -> list[System]:
    """The systems of an adapter, its environment made.

    Raises:
        SetupFailed: there is no such adapter, or its requirements cannot be installed.
    """
    if module not in known_modules():
        raise SetupFailed(f"There is no system {module!r}. These are: {', '.join(known_modules())}.")
    python = _environment(module)
    facts = _described(python, module)
    return [_system(module, variant, python, facts) for variant in facts["settings"]]


def ready(name: str) -> System:
    """The system of that name, its environment made. Raises SetupFailed."""
    found = variants(name.partition("-")[0])
    for system in found:
        if system.name == name:
            return system
    raise SetupFailed(f"There is no system {name!r}, but {', '.join(system.name for system in found)}.")


def all_systems() -> list[System]:
    """Every variant of every adapter, ours first. Raises SetupFailed."""
    return [system for module in known_modules() for system in variants(module)]


def child_environment(spec: WorkerSpec) -> dict[str, str]:
    """The environment variables of a worker or a producer."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith(("ARQ_WEB_", "REDIS_", "PYTHON"))}
    return mine | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | spec.environment()


def _system(module: str, variant: str, python: Path, facts: dict[str, Any]) -> System:
    return System(
        name=f"{module}-{variant}" if variant else module,
        module=module,
        variant=variant,
        python=python,
        versions=facts["versions"],
        delivery=facts["delivery"],
        settings=facts["settings"][variant],
        rough_rate=facts["rough_rate"][variant],
        poll_s=facts["poll_s"].get(variant, 0.0),
        results_optional=facts["results_optional"],
        spawns_processes=facts["spawns_processes"],
    )


def _environment(module: str) -> Path:
    major, minor = sys.version_info[:2]
    folder = ROOT / f".venv-{major}.{minor}-bench-{module}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    requirements = SYSTEMS / f"{module}.txt"
    wanted = _fingerprint(requirements)
    folder.mkdir(exist_ok=True)
    with _lock(folder / ".lock"):
        if not (stamp.exists() and stamp.read_text() == wanted):
            print(f"benchmarks: installing {module} into {folder.name}", file=sys.stderr)
            if not python.exists():
                _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
            stamp.write_text(wanted)
    return python


def _fingerprint(requirements: Path) -> str:
    files = [requirements, *((ROOT / "pyproject.toml", ROOT / "constraints.txt") if requirements.stem == OURS else ())]
    return hashlib.sha256(b"\n".join(file.read_bytes() for file in files)).hexdigest()


def _run(command: list[str]) -> None:
    quiet = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise SetupFailed(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _described(python: Path, module: str) -> dict[str, Any]:
    """What the adapter says of itself; it can be imported in its own environment only."""
    nowhere = WorkerSpec(redis_url="redis://127.0.0.1:1/0", ledger_folder="", n=0)
    done = subprocess.run(
        [str(python), "-m", "benchmarks.launch", "describe", module],
        cwd=ROOT,
        env=child_environment(nowhere),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise SetupFailed(f"The adapter of {module} cannot be imported:\n{done.stderr[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Two runs at the same time must not install into one environment."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
