"""Several worker processes behind one port: their supervisor asks each of them, and gives one answer.

A process that hangs makes all of it not alive: only somebody from outside can end it. One that has died does not: its
supervisor starts it again, and the end of all processes would cost the jobs of the healthy ones. It is not ready. When
all have died at the same time, that holds as well, and for as long as an app may take to come up.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from arq_web.health.exchange import BadAnswer, ask
from arq_web.health.routes import PATHS, HealthAnswer, unknown_path

CHILD_LIMIT_S = 2.5
"""A process's own answer may take two seconds, where Redis is silent."""
DOWN_LIMIT_S = 120.0
"""Once one has worked: so long none may work, while those that there are start; an app may take that to come up."""
QUIET_LIMIT_S = 60.0
"""The same where there is none, or none answers. Twice the supervisor's longest pause before it starts one again."""
LOOPBACK = "127.0.0.1"
_GONE = HealthAnswer.of_reasons({"gone": "it ends, or has ended"}, {})
"""Of a process whose port is closed: the system will soon tell its supervisor of its end."""
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')


@dataclass(frozen=True, slots=True)
class Child:
    """One worker process."""

    number: int
    port: int
    """Where it answers, on the loopback."""
    is_up: bool
    """Its worker works, or did."""


class MergedHealth:
    """The answers of all processes as one."""

    def __init__(self, count: int, children: Callable[[], Sequence[Child]], is_proven: Callable[[], bool]) -> None:
        """Ask nothing yet.

        Args:
            count: how many processes there are to be.
            children: those that there are.
            is_proven: one of them has worked already.
        """
        self._count, self._children, self._is_proven = count, children, is_proven
        self._down, self._quiet = _Since(), _Since()

    async def answer(self, path: str, accept: str = "") -> HealthAnswer:
        """Answer a GET; see ``HealthRoutes.answer``."""
        if path == "/metrics":
            return await self._metrics()
        if path.startswith("/scale"):
            return await self._first(path)
        if path not in PATHS:
            return unknown_path(path)
        children = sorted(self._children(), key=lambda child: child.number)
        answers = await asyncio.gather(*(_asked(child, path) for child in children))
        said = dict(zip(children, answers, strict=True))
        reasons = self._why_not_live(said) if path == "/livez" else self._why_not_all(said)
        return HealthAnswer.of_reasons(
            reasons, {"processes": {str(child.number): _body(answer) for child, answer in said.items()}}
        )

    def _why_not_live(self, said: dict[Child, HealthAnswer | None]) -> dict[str, str]:
        is_down = self._is_proven() and not any(child.is_up for child in said)
        down_s = self._down.lasts_s(is_down)
        quiet_s = self._quiet.lasts_s(is_down and all(answer in (None, _GONE) for answer in said.values()))
        if down_s > DOWN_LIMIT_S or quiet_s > QUIET_LIMIT_S:
            return {"processes": f"none of them works any more, for {down_s:.0f} s"}
        judged = {child: answer for child, answer in said.items() if child.is_up and answer is not _GONE}
        return {name: why for child, answer in judged.items() for name, why in _wrong(child, answer)}

    def _why_not_all(self, said: dict[Child, HealthAnswer | None]) -> dict[str, str]:
        reasons = {name: why for child, answer in said.items() for name, why in _wrong(child, answer)}
        if len(said) < self._count:
            reasons["processes"] = f"{len(said)} of {self._count} run"
        return reasons

    async def _first(self, path: str) -> HealthAnswer:
        """What is the same whoever is asked: the numbers of queues."""
        up = [child for child in self._children() if child.is_up]
        if not up:
            return HealthAnswer.of(503, {"error": "No process is up yet."})
        asking = [asyncio.create_task(_asked(child, path)) for child in up]
        bad = HealthAnswer.of(503, {"error": "No process answers."})
        try:
            for each in asyncio.as_completed(asking):
                answer = await each
                if answer is not None and answer.status != 503:
                    return answer
                bad = bad if answer in (None, _GONE) else answer
        finally:
            for task in asking:
                task.cancel()
        return bad

    async def _metrics(self) -> HealthAnswer:
        """Of all processes, each sample with its process's number; the newer formats are not for merging."""
        children = [child for child in self._children() if child.is_up]
        answers = await asyncio.gather(*(_asked(child, "/metrics") for child in children))
        pages = {child.number: answer for child, answer in zip(children, answers, strict=True) if answer is not None}
        good = {number: answer for number, answer in pages.items() if answer.status == 200}
        if not good:
            return next(iter(pages.values()), HealthAnswer.of(503, {"error": "No process is up yet."}))
        text = merged_metrics({number: answer.body.decode() for number, answer in sorted(good.items())})
        return HealthAnswer(200, text.encode(), next(iter(good.values())).media_type)


class _Since:
    """For how long something has been true, as far as we have been asked."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def lasts_s(self, is_true: bool) -> float:
        """Seconds since it was first seen to be true; 0 while it is not."""
        if not is_true:
            self._began_s = None
            return 0.0
        if self._began_s is None:
            self._began_s = time.monotonic()
        return time.monotonic() - self._began_s


def merged_metrics(pages: dict[int, str]) -> str:
    """One page of Prometheus' text format from several: a family's samples together, each with the label ``process``.

    A label of that name that a sample has already becomes ``exported_process``, as Prometheus itself would have it.

    Args:
        pages: number of the process → its page.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, page in pages.items():
        family = ""
        for line in page.split("\n"):  # that alone ends a line here: what else Python calls one may be in a label
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if not any(each.split(" ", 2)[1] == line.split(" ", 2)[1] for each in head):
                    head.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(_labelled(line, number))
    lines = [line for family in (heads | samples) for line in (*heads.get(family, ()), *samples.get(family, ()))]
    return "\n".join(lines) + "\n"


def _labelled(sample: str, number: int) -> str:
    """``name{a="b"} 1`` with the process's label; names have neither brace nor space in them."""
    brace, space = sample.find("{"), sample.find(" ")
    label = f'process="{number}"'
    if not 0 <= brace < space:
        return f"{sample[:space]}{{{label}}}{sample[space:]}"
    labels: dict[str, str] = {}
    end = brace + 1
    while (found := _LABEL.match(sample, end)) is not None:
        labels[found[1]] = found[2]
        end = found.end()
    if (own := labels.pop("process", None)) is not None:
        name = "exported_process"
        while name in labels:
            name = f"exported_{name}"
        labels[name] = own
    inside = ",".join([label, *(f'{name}="{value}"' for name, value in labels.items())])
    return f"{sample[:brace]}{{{inside}{sample[end:]}"


async def _asked(child: Child, path: str) -> HealthAnswer | None:
    """What a process says; None for one that keeps silent."""
    try:
        async with asyncio.timeout(CHILD_LIMIT_S):
            return await ask(LOOPBACK, child.port, quote(path))
    except TimeoutError:
        return None
    except (OSError, BadAnswer):
        return _GONE


def _wrong(child: Child, answer: HealthAnswer | None) -> list[tuple[str, str]]:
    name = f"process {child.number}"
    if answer is None:
        return [(name, "it does not answer")]
    if answer.status == 200:
        return []
    reasons: dict[str, str] = _body(answer).get("reasons", {})
    return [(name, "; ".join(reasons.values()) or f"it answers with {answer.status}")]


def _body(answer: HealthAnswer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}
