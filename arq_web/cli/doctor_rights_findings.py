"""What the trial of commands came to: writes, scripts, rights, and push. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from arq_web.cli.finding import Finding, Status
from arq_web.store.examination import Examination
from arq_web.store.server_facts import Unanswered
from arq_web.store.trial import Lack, PushTrial, Refusal, Trial

SELDOM = frozenset({"DUMP", "HINCRBY", "SCAN", "GETRANGE", "LRANGE", "ZREVRANGE"})
"""What only counts, keeps garbage, or serves `app-worker jobs` needs: without them jobs run all the same."""


def rights_findings(facts: Examination, cli: str) -> Iterator[Finding]:
    """One finding each for writes, scripts, rights and push."""
    unanswered = [each.why for each in facts.trials.values() if isinstance(each, Unanswered)]
    if unanswered:
        yield Finding("writes", "error", f"not tried: {unanswered[0]}")
        return
    trials = [each for each in facts.trials.values() if isinstance(each, Trial)]
    user = facts.user or facts.target.login.username or "default"
    yield _writes(trials)
    yield _scripts(trials)
    yield from _rights([refusal for each in trials for refusal in each.refusals], facts.namespace, user, cli)
    yield _push(facts.push, facts.namespace, user, cli)


def grant(cli: str, user: str, rules: list[str]) -> str:
    """The command that gives ``rules`` to ``user``; the shell would take ``&`` and ``~`` for its own."""
    return f"{cli} ACL SETUSER {shlex.quote(user)} {' '.join(map(shlex.quote, rules))}, then ACL SAVE or CONFIG REWRITE"


_WRITE_FAULTS = (
    ("READONLY", "this server is a replica, or became one", "put the master into the URL"),
    ("OOM", "Redis is full (maxmemory)", "raise maxmemory, or let workers drain the queues"),
    ("MISCONF", "its snapshots fail, and so it refuses writes", "look into the log of Redis: is the disk full?"),
    ("NOREPLICAS", "too few replicas are there (min-replicas-to-write)", "bring the replicas back"),
)


def _writes(trials: Iterable[Trial]) -> Finding:
    failures = [each for each in trials if each.write_failure]
    if not failures:
        return Finding("writes", "ok", "scratch keys were written, read and deleted")
    why = failures[0].write_failure
    for word, cause, remedy in _WRITE_FAULTS:
        if word in why:
            return Finding("writes", "error", f"refused: {why}", f"{cause}: no job can be enqueued or run", remedy)
    names = ", ".join(each.queue for each in failures)
    return Finding("writes", "error", f"failed in {names}: {why}", "no job can be enqueued or run")


def _scripts(trials: Iterable[Trial]) -> Finding:
    why = "every step of a job is a script, so that it happens as a whole or not at all"
    for each in trials:
        lacks = [refusal for refusal in each.refusals if refusal.command in ("EVAL", "EVALSHA")]
        if lacks:
            remedy = "see rights" if lacks[0].lack is not Lack.SERVER else "use a server with Lua scripts"
            return Finding("scripts", "error", f"{lacks[0].command} is refused: {lacks[0].why}", why, remedy)
        if each.script_failure and each.refusals:
            return Finding("scripts", "error", f"a script was stopped: {each.script_failure}", why, "see rights")
        if each.write_failure:
            return Finding("scripts", "note", "unknown, because nothing can be written")
        if each.script_failure:
            remedy = "use Redis or Valkey: this server runs scripts otherwise"
            return Finding("scripts", "error", f"a script failed: {each.script_failure}", why, remedy)
    return Finding("scripts", "ok", "EVAL and EVALSHA run")


def _rights(refusals: list[Refusal], namespace: str, user: str, cli: str) -> Iterator[Finding]:
    by_lack = {lack: sorted({each.command for each in refusals if each.lack is lack}) for lack in Lack}
    absent = by_lack[Lack.SERVER]
    if absent:
        why = "the server does not have what the scripts use"
        remedy = f"remove the lines rename-command {'/'.join(absent)} from redis.conf, or use another server"
        yield Finding("rights", _status(absent), f"unknown to the server: {', '.join(absent)}", why, remedy)
    commands, keys = by_lack[Lack.COMMAND], by_lack[Lack.KEY]
    if not (commands or keys):
        if not absent:
            yield Finding("rights", "ok", f"user {user} may run all commands that are needed, on {namespace}:*")
        return
    lacking = ([f"commands {', '.join(commands)}"] if commands else []) + ([f"keys {namespace}:*"] if keys else [])
    grants = [*([f"~{namespace}:*"] if keys else []), *(f"+{name.lower()}" for name in commands)]
    why = "without them no job can be enqueued or run"
    if _status([*commands, *keys]) == "warning":
        why = "jobs run without them, but `app-worker jobs` and what is kept of garbage and counts need them"
    found = f"user {user} lacks {' and '.join(lacking)}"
    yield Finding("rights", _status([*commands, *keys]), found, why, grant(cli, user, grants))


def _status(commands: Iterable[str]) -> Status:
    return "warning" if set(commands) <= SELDOM else "error"


def _push(push: PushTrial | Unanswered, namespace: str, user: str, cli: str) -> Finding:
    if isinstance(push, Unanswered):
        return Finding("push", "warning", f"not tried: {push.why}")
    if push.subscribe is not None:
        why = "job.result() is refused, for it waits on a channel"
        remedy = grant(cli, user, ["+subscribe", "+unsubscribe", f"&{namespace}:*"])
        return Finding("push", "error", f"SUBSCRIBE failed: {push.subscribe.why}", why, remedy)
    late = "job.result() then learns of a job's end up to 30 s late"
    if push.publish is not None:
        remedy = grant(cli, user, ["+publish", f"&{namespace}:*"])
        return Finding("push", "warning", f"PUBLISH failed: {push.publish.why}", late, remedy)
    if push.round_trip_ms is None:
        return Finding("push", "warning", "a message to ourselves did not arrive", late, "is a proxy in between?")
    return Finding("push", "ok", f"a message to ourselves took {push.round_trip_ms:.1f} ms")
