"""What ``doctor`` says: one finding per check, and how a list of them looks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from arq_web.logs import printable

Status = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found and, where something is to be changed, why and how."""

    check: str
    status: Status
    found: str
    why: str = ""
    remedy: str = ""


def findings_text(findings: Sequence[Finding]) -> str:
    """Aligned columns, what to change below each line, and a last line with counts."""
    width = max(len(each.check) for each in findings)
    lines = [printable(line) for each in findings for line in _lines(each, width)]
    counts: Counter[Status] = Counter(each.status for each in findings)
    return "\n".join([*lines, "", ", ".join(_counted(counts))])


def findings_json(findings: Sequence[Finding]) -> str:
    """One JSON array."""
    return json.dumps([asdict(each) for each in findings], indent=2, ensure_ascii=False)


def _lines(each: Finding, width: int) -> Iterator[str]:
    indent = " " * (len("warning") + width + 4)
    yield f"{each.status:<7}  {each.check:<{width}}  {' '.join(each.found.split())}"
    if each.remedy:
        yield f"{indent}do:  {each.remedy}"
    if each.why:
        yield f"{indent}why: {each.why}"


def _counted(counts: Counter[Status]) -> Iterator[str]:
    yield f"{counts['error']} error{'s'[: counts['error'] != 1]}"
    yield f"{counts['warning']} warning{'s'[: counts['warning'] != 1]}"
    yield f"{counts['note']} note{'s'[: counts['note'] != 1]}"
    yield f"{counts['ok']} ok"
