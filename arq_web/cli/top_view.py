"""One frame of ``app-worker top``, as lines of text. Pure: the same facts and size give the same lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from arq_web.cli.job_listing import job_object
from arq_web.cli.text_width import cut, padded, width
from arq_web.cli.top_facts import QueueFacts, Snapshot, WorkerFacts
from arq_web.job import JobInfo, to_datetime
from arq_web.logs import duration, printable

SORTS = ("age", "task", "progress", "worker")
"""By what running jobs may be sorted."""
_QUEUES = ("QUEUE", "READY", "SCHEDULED", "RUNNING", "DEAD", "REJECTED", "OLDEST", "IN/S", "OUT/S", "FAIL/S")
_WORKERS = ("WORKER", "KIND", "RUNNING", "SLOTS", "SEEN", "QUEUES")
_RUNNING = ("AGE", "PROGRESS", "TASK", "JOB", "TRY", "QUEUE", "WORKER")
_BAR_CELLS = 10
_RIGHT = frozenset({*_QUEUES[1:], "RUNNING", "SLOTS", "SEEN", "AGE", "TRY"})
_FIXED_LINES = 9  # the head, three titles, a blank line before each part, the keys

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class View:
    """How somebody wants to see it."""

    title: str
    sort: str = SORTS[0]
    is_paused: bool = False
    has_keys: bool = True
    is_plain: bool = False
    """Only ASCII: the terminal has no blocks for bars."""

    @property
    def next_sort(self) -> str:
        """What follows when somebody asks for another one."""
        return SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and how it is shown."""

    text: str
    style: str = ""
    """``title``, ``head``, ``trouble``, ``dim`` or nothing."""


def frame(facts: Snapshot | None, view: View, *, columns: int, rows: int | None, trouble: str = "") -> list[Line]:
    """All lines, none wider than ``columns``, and no more than ``rows`` (None: as many as there are)."""
    lines = [Line(_head(facts, view), "title")]
    if trouble:
        lines.append(Line(trouble, "trouble"))
    if facts is None:
        lines += [] if trouble else [Line("Asking Redis ...", "dim")]
    else:
        lines += _parts(facts, view, None if rows is None else max(3, rows - _FIXED_LINES - len(lines) + 1))
    if view.has_keys:
        keys = "q quit   s sort   p pause   space now"
        lines += [Line(""), Line(keys, "dim")]
    fitting = lines if rows is None or len(lines) <= rows else [*lines[: rows - 1], lines[-1]]
    return [Line(cut(printable(line.text), columns, is_plain=view.is_plain), line.style) for line in fitting]


def frame_object(facts: Snapshot) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "at": to_datetime(facts.at_ms).isoformat(),
        "queues": [_queue_object(queue) for queue in facts.queues],
        "workers": [
            {
                "id": w.id,
                "kind": w.kind,
                "queues": list(w.queues),
                "running": w.running,
                "slots": w.slots,
                "seen_s": w.seen_ms / 1000,
            }
            for w in facts.workers
        ],
        "running": [
            {**job_object(info), "progress": info.progress and asdict(info.progress)} for info in facts.running
        ],
    }


def _head(facts: Snapshot | None, view: View) -> str:
    at = "" if facts is None else f"   {to_datetime(facts.at_ms).astimezone():%H:%M:%S}"
    return f"{view.title}{at}" + ("   PAUSED" if view.is_paused else "")


def _parts(facts: Snapshot, view: View, room: int | None) -> list[Line]:
    """Queues and workers get up to a third of the room each, running jobs the rest."""
    third = None if room is None else max(1, room // 3)
    queues = _part(_QUEUES, [_queue_row(queue) for queue in facts.queues], third)
    workers = _part(_WORKERS, [_worker_row(worker) for worker in facts.workers], third)
    total = sum(queue.measured.running for queue in facts.queues)
    running = [_running_row(info, facts.at_ms, view) for info in sorted(facts.running, key=_SORT_KEYS[view.sort])]
    used = len(queues) + len(workers) - 2
    rest = None if room is None else max(1, room - used)
    jobs = _part(_RUNNING, running, rest, total=max(total, len(running)), note=f"by {view.sort}")
    return [Line(""), *queues, Line(""), *workers, Line(""), *jobs]


def _part(head: Row, rows: Sequence[Row], most: int | None, *, total: int | None = None, note: str = "") -> list[Line]:
    """A table of at most ``most`` rows; the last one says how many are left out."""
    total = len(rows) if total is None else total
    if not rows:
        return [Line(head[0] if head is not _RUNNING else "RUNNING JOBS", "head"), Line("none", "dim")]
    shown = list(rows)
    if most is not None and (len(rows) > most or total > len(rows)):
        shown = shown[: max(0, most - 1)]
    text = _columns([head, *shown])
    lines = [Line(f"{text[0]}   {note}".rstrip(), "head"), *map(Line, text[1:])]
    if len(shown) < total:
        lines.append(Line(f"and {total - len(shown)} more", "dim"))
    return lines


def _columns(rows: Sequence[Row]) -> list[str]:
    cells = [[printable(" ".join(cell.split())) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    is_right = [name in _RIGHT for name in rows[0]]
    return [
        "  ".join(
            padded(cell, columns, right=right) for cell, columns, right in zip(row, widths, is_right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _queue_row(queue: QueueFacts) -> Row:
    m = queue.measured
    oldest = duration(m.oldest_ready_age_ms) if m.ready else "-"
    rates = (f"{rate:.1f}" for rate in (queue.in_per_s, queue.out_per_s, queue.failed_per_s))
    return (queue.name, *map(str, (m.ready, m.scheduled, m.running, m.dead, m.rejected)), oldest, *rates)


def _worker_row(worker: WorkerFacts) -> Row:
    return (
        worker.id,
        worker.kind,
        str(worker.running),
        str(worker.slots),
        f"{duration(worker.seen_ms)} ago",
        ",".join(worker.queues),
    )


def _running_row(info: JobInfo, now_ms: int, view: View) -> Row:
    short_id = f"{info.id[:8]}…" if len(info.id) == 32 and not info.is_id_chosen and not view.is_plain else info.id
    return (
        duration(max(0, now_ms - _started_ms(info))),
        _bar(info, view),
        info.task.rpartition(":")[2],
        short_id,
        str(info.attempt),
        info.queue,
        info.worker or "-",
    )


def _bar(info: JobInfo, view: View) -> str:
    if info.progress is None:
        return "-"
    full, empty = ("#", ".") if view.is_plain else ("█", "░")
    cells = round(_BAR_CELLS * min(1.0, max(0.0, info.progress.fraction)))
    words = f"{full * cells}{empty * (_BAR_CELLS - cells)} {info.progress.fraction:.0%} {info.progress.message}"
    return cut(words, 40, is_plain=view.is_plain)


def _queue_object(queue: QueueFacts) -> dict[str, Any]:
    m = queue.measured
    return {
        "name": queue.name,
        "ready": m.ready,
        "scheduled": m.scheduled,
        "running": m.running,
        "dead": m.dead,
        "rejected": m.rejected,
        "oldest_ready_age_s": m.oldest_ready_age_ms / 1000,
        "in_per_s": round(queue.in_per_s, 3),
        "out_per_s": round(queue.out_per_s, 3),
        "failed_per_s": round(queue.failed_per_s, 3),
    }


def _started_ms(info: JobInfo) -> int:
    return info.started_at_ms or info.since_ms


def _fraction(info: JobInfo) -> float:
    return -1.0 if info.progress is None else info.progress.fraction


_SORT_KEYS: dict[str, Callable[[JobInfo], Any]] = {
    "age": _started_ms,
    "task": lambda info: (info.task, _started_ms(info)),
    "progress": lambda info: (-_fraction(info), _started_ms(info)),
    "worker": lambda info: (info.worker or "", _started_ms(info)),
}
