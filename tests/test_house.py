"""The rules of the house that no linter knows. One table, one test per rule; see CONTRIBUTING.md for the reasons."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ("arq_web", "integrations")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL_COUNT = 8
MAX_SCRIPT_LINES = 80
# Each longer file is one thing that is read as a whole.
LONGER_FILES = {
    "arq_web/errors.py": 590,  # the exception tree
    "arq_web/store/lua/_record.lua": 140,  # the record's layout, known in one place and put before every script
}
BUILT = frozenset({"__pycache__", "build", "dist", "node_modules", "site", "var"})
TEXT_SUFFIXES = frozenset(
    {".cfg", ".css", ".html", ".js", ".lua", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
)
TEXT_NAMES = frozenset({"LICENSE", "Makefile", "run"})

FUNCTION_TYPES = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceFile:
    """One file of the repository, read and parsed once."""

    path: Path

    @cached_property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def is_library(self) -> bool:
        return self.name.startswith(LIBRARY)

    @property
    def is_story(self) -> bool:
        return self.name.startswith(("tests/stories/", "tests/chaos/"))


def file_size(file: SourceFile) -> Iterator[str]:
    """A file longer than this holds two ideas."""
    limit = LONGER_FILES.get(file.name, MAX_FILE_LINES)
    if file.is_library and file.path.suffix == ".py" and len(file.lines) > limit:
        yield f"{len(file.lines)} lines, the limit is {limit}"


def function_size(file: SourceFile) -> Iterator[str]:
    """Fifty lines always, twenty usually; a docstring does not count."""
    for function in functions(file):
        if (count := code_lines(function)) > MAX_FUNCTION_LINES:
            yield f"{function.name} (line {function.lineno}) has {count} lines, the limit is {MAX_FUNCTION_LINES}"


def parameters(file: SourceFile) -> Iterator[str]:
    """Options are keyword-only; related ones become a frozen dataclass."""
    for function in functions(file):
        positional = [a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")]
        if len(positional) > MAX_POSITIONAL_COUNT:
            yield f"{function.name} (line {function.lineno}) has {len(positional)} positional parameters"


def docstrings(file: SourceFile) -> Iterator[str]:
    """What users can name, they can look up."""
    if file.is_library and file.path.suffix == ".py":
        for name, node in public_definitions(file.tree):
            if ast.get_docstring(node) is None:
                yield f"{name} (line {node.lineno}) has no docstring"


def story_reasons(file: SourceFile) -> Iterator[str]:
    """Stories and chaos tests are documentation: each says why it is there."""
    if file.is_story and file.path.name.startswith("test_"):
        for node in ast.walk(file.tree):
            if isinstance(node, FUNCTION_TYPES) and node.name.startswith("test_") and not ast.get_docstring(node):
                yield f"{node.name} (line {node.lineno}) has no docstring"


def scripts(file: SourceFile) -> Iterator[str]:
    """A script's head says what it does and returns; a script is short enough to be checked by reading."""
    if file.path.suffix != ".lua":
        return
    limit = LONGER_FILES.get(file.name, MAX_SCRIPT_LINES)
    if len(file.lines) > limit:
        yield f"{len(file.lines)} lines, the limit is {limit}"
    if not file.text.startswith(f"-- {file.path.stem}: "):
        yield f"must begin with '-- {file.path.stem}: <what it does>'"


def script_tests(file: SourceFile) -> Iterator[str]:
    """One verb, five places: a script has its file of tests."""
    if file.path.suffix == ".lua" and not file.path.name.startswith("_"):
        test = ROOT / "tests" / "store" / f"test_{file.path.stem}.py"
        if not test.exists():
            yield f"has no {test.relative_to(ROOT)}"


def foreign_text(file: SourceFile) -> Iterator[str]:
    """The repository must not know the machine it was written on, nor where packages come from."""
    # Written so that this file does not find itself.
    machine = re.compile(r"(?<![\w.~)\]}*-])/(?:root|work)/")
    registry = re.compile(r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(?:org|com)|deb\.[d]ebian\.org", re.IGNORECASE)
    for number, line in enumerate(file.lines, 1):
        if found := machine.search(line) or registry.search(line):
            yield f"line {number} names {found.group()}"


def layers(file: SourceFile) -> Iterator[str]:
    """A module that is in no layer is checked by nobody."""
    path = file.path.relative_to(ROOT)
    if path.parts[0] != "arq_web" or path.suffix != ".py" or (path.name == "__init__.py" and len(path.parts) == 2):
        return
    module = "arq_web." + path.parts[1].removesuffix(".py")
    if module not in layered_modules():
        yield f"{module} is not in the layers contract of pyproject.toml"


RULES: tuple[Callable[[SourceFile], Iterable[str]], ...] = (
    file_size,
    function_size,
    parameters,
    docstrings,
    story_reasons,
    scripts,
    script_tests,
    foreign_text,
    layers,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its(rule: Callable[[SourceFile], Iterable[str]]) -> None:
    faults = [f"{file.name}: {fault}" for file in source_files() for fault in rule(file)]

    if faults:
        pytest.fail(f"{rule.__doc__}\n  " + "\n  ".join(faults), pytrace=False)


def test_the_rules_look_at_the_files_they_are_for() -> None:
    """A rule that finds no file would always pass."""
    names = {file.name for file in source_files()}

    assert {"arq_web/errors.py", "arq_web/store/lua/claim.lua", "tests/test_house.py", "Makefile", ".ci/run"} <= names


def test_a_longer_file_is_still_there_and_still_long() -> None:
    """An exception that nothing needs any more is an open door."""
    lengths = {file.name: len(file.lines) for file in source_files()}

    for name in LONGER_FILES:
        assert lengths.get(name, 0) > (MAX_SCRIPT_LINES if name.endswith(".lua") else MAX_FILE_LINES), name


def source_files() -> list[SourceFile]:
    """All text files that belong to the repository, without what was built or installed."""
    return [SourceFile(path) for path in sorted(walk(ROOT)) if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES]


def walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in BUILT and (not path.name.startswith(".") or path.name == ".ci"):
            yield from walk(path)
        elif path.is_file():
            yield path


def functions(file: SourceFile) -> Iterator[Function]:
    if file.is_library and file.path.suffix == ".py":
        yield from (node for node in ast.walk(file.tree) if isinstance(node, FUNCTION_TYPES))


def code_lines(function: Function) -> int:
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    signature = function.body[0].lineno - function.lineno
    return signature + (function.end_lineno or first.lineno) - first.lineno + 1


def public_definitions(
    node: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for child in node.body:
        if not isinstance(child, (*FUNCTION_TYPES, ast.ClassDef)) or child.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in child.decorator_list}
        if not decorators & {"overload", "override", "setter"}:
            yield f"{prefix}{child.name}", child
        if isinstance(child, ast.ClassDef):
            yield from public_definitions(child, f"{prefix}{child.name}.")


def layered_modules() -> set[str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return set(re.findall(r"[\w.]+", " ".join(contract["layers"])))
