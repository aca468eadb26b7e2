"""What every adapter keeps to, read from its source: most can only be imported in their system's environment."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.environment import OURS, SYSTEMS, known_modules

ALLOWED = {"benchmarks.systems", "benchmarks.systems.base", "benchmarks.ledger"}
FACTS = {"PACKAGES", "DELIVERY", "RESULTS_OPTIONAL", "SETTINGS", "ROUGH_RATE", "SPAWNS_PROCESSES"}
OWN_PACKAGES = {"ours": {"arq_web", "opentelemetry"}, "taskiq": {"taskiq", "taskiq_redis"}}


def test_there_is_an_adapter_for_each_peer() -> None:
    peers = {"arq", "saq", "streaq", "taskiq", "docket", "dramatiq", "celery", "rq"}

    assert set(known_modules()) == {OURS, *peers}


@pytest.mark.parametrize("module", known_modules())
def test_an_adapter_imports_nothing_of_the_project_but_what_runs_in_every_environment(module: str) -> None:
    own = OWN_PACKAGES.get(module, {module}) | {"redis", "uvloop"}
    foreign = [
        name
        for name in imports(SYSTEMS / f"{module}.py")
        if name.partition(".")[0] not in own | set(sys.stdlib_module_names) and name not in ALLOWED
    ]

    assert [name for name in foreign if name != f"benchmarks.systems.{module}"] == []


@pytest.mark.parametrize("name", ["systems/base.py", "systems/__init__.py", "ledger.py", "launch.py", "producer.py"])
def test_what_runs_in_every_environment_needs_the_standard_library_only(name: str) -> None:
    own = ALLOWED | {"uvloop"}  # which is tried, and done without

    foreign = [each for each in imports(SYSTEMS.parent / name) if each.partition(".")[0] not in sys.stdlib_module_names]

    assert [each for each in foreign if each not in own] == []


@pytest.mark.parametrize("module", known_modules())
def test_an_adapter_says_what_the_report_needs(module: str) -> None:
    tree = ast.parse((SYSTEMS / f"{module}.py").read_text(encoding="utf-8"))
    targets = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    names = {target.id for each in targets for target in each if isinstance(target, ast.Name)}
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    assert names >= FACTS
    assert {"worker_command", "Producer"} <= defined


@pytest.mark.parametrize("module", [name for name in known_modules() if name != OURS])
def test_a_peer_and_what_it_speaks_to_redis_with_are_pinned(module: str) -> None:
    """A new release of a peer is a new result: it comes by a commit, not by the day on which somebody measures."""
    lines = [line for line in requirements(module) if not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", line)] == []
    assert any(line.startswith("uvloop==") for line in lines)


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, ``from a import b`` as ``a``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def requirements(module: str) -> list[str]:
    return (SYSTEMS / f"{module}.txt").read_text(encoding="utf-8").splitlines()
