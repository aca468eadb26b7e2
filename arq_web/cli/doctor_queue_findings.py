"""What the queues hold, who works for them, and what else is in the namespace. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from arq_web.cli.finding import Finding
from arq_web.cli.job_listing import shown_bytes
from arq_web.logs import duration
from arq_web.store.examination import Examination, NamespaceFacts, ParkedJobs, QueueFacts
from arq_web.store.keys import FORMAT_VERSION
from arq_web.store.server_facts import Unanswered

SHOWN_COUNT = 5


def keys_findings(facts: Examination, cli: str) -> Iterator[Finding]:
    """How large the database is, and what an older or newer version left in the namespace."""
    counts = [] if isinstance(facts.servers, Unanswered) else [each.key_count for each in facts.servers]
    known = [count for count in counts if count is not None]
    size = f"{sum(known):,} keys in database {facts.target.db}" if known else "size unknown"
    keys = facts.keys
    if isinstance(keys, Unanswered):
        yield Finding("database", "note", f"{size}; not looked at: {keys.why}")
        return
    seen = "" if keys.is_complete else f" among the first {keys.looked_at_count:,}"
    yield Finding("database", "ok", f"{size}, {keys.key_count:,} of namespace {facts.namespace}{seen}")
    yield from _other_versions(keys, facts.namespace, cli)


def queue_findings(facts: Examination, app_target: str, is_known_task: Callable[[str], bool]) -> Iterator[Finding]:
    """Each queue: its counts and workers, then what needs a look."""
    for name, queue in facts.queues.items():
        check = f"queue {name}"
        if isinstance(queue, Unanswered):
            yield _unreadable(check, queue, facts.namespace)
        elif queue.is_declared:
            yield _attendance(check, queue, app_target)
            yield from _left_behind(check, queue, app_target)
            yield from _parked(check, queue, is_known_task)
        else:
            yield _undeclared(check, queue)


def _other_versions(keys: NamespaceFacts, namespace: str, cli: str) -> Iterator[Finding]:
    strangers = 0
    for version, count in sorted(keys.other_versions.items()):
        if not (version.isascii() and version.isdigit()):
            strangers += count
            continue
        found = f"{count:,} key{'s'[: count != 1]} of format version {version}; this one is {FORMAT_VERSION}"
        why = "jobs of another version of arq_web are seen by its workers only"
        remedy = f"let such workers empty their queues; look: {cli} --scan --pattern '{namespace}:{version}:*'"
        yield Finding("leftovers", "warning", found, why, remedy)
    if strangers:
        found = f"{strangers:,} key{'s'[: strangers != 1]} under {namespace}: that no version of arq_web writes"
        why = "another program uses the same prefix, and may one day write into a queue"
        remedy = f"give each its own namespace (ARQ_WEB_NAMESPACE); look: {cli} --scan --pattern '{namespace}:*'"
        yield Finding("leftovers", "warning", found, why, remedy)


def _unreadable(check: str, queue: Unanswered, namespace: str) -> Finding:
    if queue.is_refused:
        return Finding(check, "note", f"unknown, because Redis refuses to tell ({queue.why})")
    if "WRONGTYPE" not in queue.why:
        return Finding(check, "warning", f"not looked at: {queue.why}")
    why = "another program writes into this namespace, and arq_web cannot work with such a key"
    remedy = "find and remove that key, and give each program its own namespace (ARQ_WEB_NAMESPACE)"
    return Finding(check, "error", f"a key of {namespace} is of another type: {queue.why}", why, remedy)


def _attendance(check: str, queue: QueueFacts, app_target: str) -> Finding:
    counts = queue.counts
    found = (
        f"{counts.queued} queued, {counts.running} running, {counts.waiting} scheduled or retrying; "
        f"{queue.worker_count or 'no'} worker{'s'[: queue.worker_count != 1]}"
    )
    if queue.worker_count:
        return Finding(check, "ok", found)
    remedy = f"app-worker {app_target} --queue {queue.name}"
    if counts.queued or counts.running:
        return Finding(check, "warning", found, "jobs wait, and nobody runs them", remedy)
    return Finding(check, "note", found, "nobody would run a job", remedy)


def _left_behind(check: str, queue: QueueFacts, app_target: str) -> Iterator[Finding]:
    counts, options = queue.counts, f"{app_target} --queue {queue.name}"
    if counts.rejected and (reject := queue.newest_reject) is not None:
        age = duration(max(0, counts.now_ms - reject.at_ms))
        found = f"{counts.rejected} rejected, the newest {age} ago: {reject.reason} ({shown_bytes(reject.raw, 40)})"
        why = "something in the queue was no job of ours: another program, or another version, writes there"
        yield Finding(check, "warning", found, why, f"app-worker jobs ls {options} --state rejected")
    if counts.dead:
        found = f"{counts.dead} dead job{'s'[: counts.dead != 1]}"
        look = f"app-worker jobs ls {options} --state dead, then app-worker jobs redrive {app_target} <id>"
        yield Finding(check, "note", found, "they ended without success, and are kept to be redriven", look)


def _parked(check: str, queue: QueueFacts, is_known_task: Callable[[str], bool]) -> Iterator[Finding]:
    sample = f"of the {queue.due_looked_at} due next"
    if queue.counts.waiting > queue.due_looked_at:
        sample += f", a sample of {queue.counts.waiting}"
    for reason, what in (("unknown_task", "have a task that no worker knows"), ("undecodable", "cannot be read")):
        parked = [each for each in queue.parked if each.reason == reason]
        if not parked:
            continue
        found = f"{sum(each.count for each in parked)} jobs {what}: {_tasks(parked)} ({sample})"
        why = "they are tried again for 24 h, then they are dead"
        yield Finding(check, "warning", found, why, _parked_remedy(reason, parked, is_known_task))


def _tasks(parked: list[ParkedJobs]) -> str:
    more = f", and {len(parked) - SHOWN_COUNT} more" if len(parked) > SHOWN_COUNT else ""
    return ", ".join(f"{each.task} ({each.count})" for each in parked[:SHOWN_COUNT]) + more


def _parked_remedy(reason: str, parked: Iterable[ParkedJobs], is_known_task: Callable[[str], bool]) -> str:
    unknown = [each.task for each in parked if not is_known_task(each.task)]
    if reason == "undecodable":
        return "give new parameters a default, or start workers of the version that enqueued them"
    if unknown:
        return f"start workers that have it, or keep its old name: @task(aliases=[{unknown[0]!r}])"
    return "this app knows it: restart the workers, they run an older version"


def _undeclared(check: str, queue: QueueFacts) -> Finding:
    counts = queue.counts
    waiting = counts.queued + counts.running + counts.waiting
    found = f"not declared by this app: {waiting} jobs wait or run, {counts.dead} dead, {queue.worker_count} workers"
    if waiting and not queue.worker_count:
        remedy = f"declare it (queues=[..., {queue.name!r}]) and let a worker empty it, or delete its keys"
        return Finding(
            check, "warning", found, "a queue that was renamed or removed keeps its jobs, and nobody runs them", remedy
        )
    return Finding(check, "note", found)
