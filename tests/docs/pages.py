"""Reading our own pages: sections, tables, code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced block: its language, its text, and where it begins."""

    language: str
    title: str
    text: str
    page: str
    line: int

    @property
    def place(self) -> str:
        """``page:line``, for messages."""
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """The text of a page, by its path under docs/."""
    return (DOCS / page).read_text(encoding="utf-8")


def all_pages() -> list[Path]:
    """Every page that readers see, README among them."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if re.fullmatch(rf"#+ `?{re.escape(heading)}`?", line)]
    assert starts, f"no heading {heading!r}"
    level = len(lines[starts[0]]) - len(lines[starts[0]].lstrip("#"))
    body = []
    for line in lines[starts[0] + 1 :]:
        if re.match(rf"#{{1,{level}}} ", line):
            break
        body.append(line)
    return "\n".join(body)


def headings(text: str, level: int) -> list[str]:
    """The headings of one level, without backticks and anchors."""
    found = re.findall(rf"^#{{{level}}} (.+)$", text, re.MULTILINE)
    return [re.sub(r"\s*\{.*\}$", "", heading).strip("`") for heading in found]


def table(text: str, first_column: str) -> list[list[str]]:
    """The rows of the table whose head begins with that word; cells as they are written."""
    rows: list[list[str]] = []
    is_ours = False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_ours = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == first_column:
            is_ours = True
        elif is_ours and not re.fullmatch(r":?-+:?", cells[0]):
            rows.append(cells)
    assert rows, f"no table whose first column is {first_column!r}"
    return rows


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def code_blocks(path: Path) -> Iterator[CodeBlock]:
    """The fenced blocks of a page, indented ones (in tabs) too."""
    page = path.relative_to(ROOT).as_posix()
    fence: re.Match[str] | None = None
    body: list[str] = []
    start = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence is None:
            fence = re.match(r"( *)(`{3,})(\w*)(?: +title=\"([^\"]*)\")?", line)
            body, start = [], number
        elif line.strip() == fence[2]:
            yield CodeBlock(fence[3], fence[4] or "", "\n".join(body), page, start)
            fence = None
        else:
            body.append(line[len(fence[1]) :])
