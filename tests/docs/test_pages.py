"""What every page promises: snippets come from tested files, commands exist, files exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from arq_web.cli import app_worker
from tests.docs.pages import DOCS, ROOT, CodeBlock, all_pages, code_blocks, read

BLOCKS = [block for page in all_pages() for block in code_blocks(page)]
COMMANDS_OF_OTHERS = frozenset(
    ["cd", "curl", "export", "kill", "litestar", "mkdir", "pip", "python3.11", "sed", "source", "uvicorn"]
)


def test_every_python_snippet_of_the_docs_is_a_piece_of_a_tested_file() -> None:
    """README's are run by test_readme.py: it is read where nothing includes files."""
    loose = [
        block.place
        for block in BLOCKS
        if block.language in ("python", "py") and block.page != "README.md" and not _is_included(block)
    ]

    assert loose == []


def test_every_example_is_shown_somewhere() -> None:
    """What no page shows is no example any more."""
    shown = set(re.findall(r"--8<-- \"([\w/.]+)", "\n".join(page.read_text() for page in all_pages())))
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/docs/examples").glob("[a-z]*.py")}

    assert examples <= shown


def test_every_command_that_a_page_shows_exists() -> None:
    """With its options."""
    faults = [f"{block.place}: {fault}" for block in BLOCKS for line in _prompts(block) for fault in _faults(line)]

    assert faults == []


def test_every_file_that_a_page_names_exists() -> None:
    """A tour through files that were renamed helps nobody."""
    named = re.compile(r"`((?:arq_web|tests|docs|example_app|integrations)/[\w/.]*\w(?:\.\w+)?/?)(?:::(\w+))?`")
    missing = []
    for page in all_pages():
        for path, test in named.findall(page.read_text(encoding="utf-8")):
            file = ROOT / path
            if not file.exists() or (test and f"def {test}(" not in file.read_text(encoding="utf-8")):
                missing.append(f"{page.relative_to(ROOT)}: {path} {test}".rstrip())

    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    """They are not in the navigation."""
    index = read("adr/index.md")

    assert [path.name for path in DOCS.glob("adr/[0-9]*.md") if f"]({path.name})" not in index] == []


def _is_included(block: CodeBlock) -> bool:
    lines = [line for line in block.text.splitlines() if line.strip()]
    return bool(lines) and all(re.fullmatch(r'--8<-- "[\w/.]+:\w+"', line.strip()) for line in lines)


def _prompts(block: CodeBlock) -> Iterator[str]:
    """The commands of a console block, without their output."""
    if block.language == "console":
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield line[2:].partition("  #")[0].strip()


def _faults(line: str) -> Iterator[str]:
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    match words:
        case []:
            return
        case ["app-worker", *rest]:
            yield from faults_of_app_worker(rest)
        case ["make", *rest]:
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            yield from (f"no target {word!r}" for word in rest if "=" not in word and word not in targets)
        case [other, *_] if other not in COMMANDS_OF_OTHERS:
            yield f"unknown command {other!r}"
        case _:
            pass


def faults_of_app_worker(words: list[str]) -> Iterator[str]:
    """What is wrong with the words after ``app-worker``: options that there are not."""
    words = list(words)
    command: click.Command = app_worker
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if command is app_worker and words and not words[0].startswith("-"):
        command = app_worker.commands["worker"]
    known = {flag for each in command.params for flag in each.opts + each.secondary_opts} | {"--help", "-h"}
    yield from (f"{command.name} has no {word!r}" for word in words if word.startswith("-") and word not in known)
