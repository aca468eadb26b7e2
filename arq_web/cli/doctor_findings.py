"""From the facts about a Redis to findings: what is wrong, why it matters, what to change. Pure."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator

from arq_web.cli.doctor_queue_findings import keys_findings, queue_findings
from arq_web.cli.doctor_rights_findings import grant, rights_findings
from arq_web.cli.finding import Finding, Status
from arq_web.config import Config
from arq_web.logs import duration
from arq_web.store.examination import Examination, Line
from arq_web.store.server_facts import DiskFacts, ServerFacts, Unanswered
from arq_web.store.target import RedisTarget

OLDEST_REDIS = (6, 2)
FULL_SHARE = 0.8
SLOW_MS = 5.0
CLOCK_MS = 1000.0
KNOWN_PRODUCTS = ("Redis", "Valkey")


def judge(facts: Examination, config: Config, app_target: str, is_known_task: Callable[[str], bool]) -> list[Finding]:
    """All findings, in the order in which they are best mended.

    Args:
        facts: what Redis said.
        config: of the app.
        app_target: ``main:app``, for the commands that remedies name.
        is_known_task: whether the app has a task of that name.
    """
    return list(_judge(facts, config, app_target, is_known_task))


def redis_cli(target: RedisTarget, *, as_us: bool = True) -> str:
    """``redis-cli`` with what it needs to speak to this server (``as_us``: as our user; it asks for the password)."""
    words = ["redis-cli"]
    if target.path:
        words += ["-s", target.path]
    elif target.kind == "single":
        host, port = target.nodes[0]
        words += ["-h", host] if host not in ("localhost", "127.0.0.1") else []
        words += ["-p", str(port)] if port != 6379 else []
    else:  # pasted without an address it would change whatever Redis this host has
        words += ["-h", "<its host>", "-p", "<its port>"]
    words += ["-n", str(target.db)] if target.db else []
    words += ["--tls"] if target.tls else []
    words += ["--user", target.login.username] if as_us and target.login.username else []
    words += ["--askpass"] if as_us and target.login.password else []
    return shlex.join(words)


def _judge(
    facts: Examination, config: Config, app_target: str, is_known_task: Callable[[str], bool]
) -> Iterator[Finding]:
    cli = redis_cli(facts.target)
    yield from _connection(facts)
    yield from _sentinels(facts)
    if facts.unreached is not None:
        return
    if isinstance(facts.servers, Unanswered):
        yield _silent_server(facts.servers)
    else:
        for server in facts.servers:
            for finding in _server(server, facts.target, cli):
                several = len(facts.servers) > 1
                yield _of_queues(finding, server.queues) if several else finding
    yield from rights_findings(facts, _admin(facts.target))
    yield from _line(facts.line, config)
    yield from keys_findings(facts, cli)
    yield from queue_findings(facts, app_target, is_known_task)


# -- the connection -----------------------------------------------------------------------


def _connection(facts: Examination) -> Iterator[Finding]:
    target, where = facts.target, facts.target.masked
    if facts.unreached is not None:
        yield _unreached(facts.unreached, target)
        return
    user = facts.user or target.login.username or "default"
    found = f"{where}, user {user}, {'TLS' if target.tls else 'no TLS'}"
    if target.tls and target.tls.cert_reqs == "none":
        yield Finding(
            "connection",
            "warning",
            f"{found}, its certificate is not checked",
            "whoever stands in between can pose as your Redis and read everything",
            "remove ssl_cert_reqs=none from the URL; for an authority of your own add ssl_ca_certs=/path/ca.pem",
        )
    elif target.tls is None and (public := [each for each in facts.addresses if _is_public(each)]):
        yield Finding(
            "connection",
            "warning",
            f"{found}, at the public address {public[0]}",
            "password and arguments of jobs cross a public network for everybody to read",
            "use TLS (rediss:// in the URL), or a private network",
        )
    else:
        yield Finding("connection", "ok", found)


def _unreached(unreached: Unanswered, target: RedisTarget) -> Finding:
    found = f"{target.masked}: {unreached.why}"
    if lacking := re.search(r"no permissions to run the '(\w+)", unreached.why):
        why, user = "every connection begins with that command", target.login.username or "default"
        return Finding("connection", "error", found, why, grant(_admin(target), user, [f"+{lacking[1]}"]))
    if unreached.is_refused:
        why = "Redis is there, and does not let us in"
        remedy = "correct user and password in the URL (percent-encode special characters), or the ACL of that user"
        return Finding("connection", "error", found, why, remedy)
    if "cannot be resolved" in unreached.why or "was not resolved" in unreached.why:
        why, remedy = "without an address there is nothing to connect to", "correct the host in the URL, or the DNS"
    elif re.search(r"refused|Connect call failed|Error 111 ", unreached.why):
        why, remedy = "nothing listens there", "start Redis, or correct the URL (REDIS_URL)"
    elif unreached.why.startswith("LOADING"):
        why, remedy = "it reads its data from disk, and answers nothing until then", "wait, and look again"
    elif re.search(r"no (connection|answer|reply)", unreached.why):
        why = "who is there says nothing: a firewall, a wrong host, a server that hangs, or TLS on one side only"
        remedy = f"try {redis_cli(target)} PING from this host; then correct the URL (REDIS_URL) or the firewall"
    else:
        why = "without Redis no job is taken or run"
        remedy = f"try {redis_cli(target)} PING from this host; then correct the URL (REDIS_URL) or the server"
    return Finding("connection", "error", found, why, remedy)


def _admin(target: RedisTarget) -> str:
    return f"as an administrator: {redis_cli(target, as_us=False)}"


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False


def _sentinels(facts: Examination) -> Iterator[Finding]:
    if facts.target.kind != "sentinel":
        return
    silent = [f"{each.sentinel} ({each.why})" for each in facts.sentinels if not each.master]
    masters = sorted({each.master for each in facts.sentinels if each.master})
    count = len(facts.sentinels)
    named = f"{count - len(silent)} of {count} name {' and '.join(masters) or 'no master'}"
    if len(masters) > 1:
        why = "a failover is under way, or the sentinels watch different servers under one name"
        yield Finding(
            "sentinels", "warning", named, why, f"look again in a minute; then SENTINEL MASTER {facts.target.master}"
        )
    if silent:
        why = "when the others fail too, nobody tells us where the master is"
        remedy = "start it, or correct its address and ?sentinel_password= in the URL"
        yield Finding("sentinels", "warning" if masters else "error", f"silent: {'; '.join(silent)}", why, remedy)
    if masters and not silent and len(masters) == 1:
        yield Finding(
            "sentinels", "ok" if count > 1 else "note", named if count > 1 else f"{named}; the URL names only one"
        )


# -- the server ---------------------------------------------------------------------------


def _of_queues(finding: Finding, queues: tuple[str, ...]) -> Finding:
    found = f"{finding.found} (node of {', '.join(queues)})"
    return Finding(finding.check, finding.status, found, finding.why, finding.remedy)


def _server(server: ServerFacts, target: RedisTarget, cli: str) -> Iterator[Finding]:
    yield _product(server)
    if server.info_refused:
        unknown = f"unknown, because INFO is refused; {_CONSOLE}"
        for check in ("eviction", "memory", "persistence", "replication"):
            yield Finding(check, "note", unknown)
        return
    yield _eviction(server, cli)
    yield _memory(server, cli)
    yield from _persistence(server, cli)
    yield _replication(server, target, cli)
    yield from _cluster(server, target)


def _silent_server(unanswered: Unanswered) -> Finding:
    if "closed the connection" in unanswered.why:
        found = "unknown: asked for INFO, it closed the connection"
        why = "so do imitations of Redis, such as the in-memory one for development, which keeps nothing"
        return Finding("server", "warning", found, why, "in production, use Redis or Valkey")
    why = "memory, disk and replication cannot be judged"
    return Finding(
        "server", "error", f"it did not answer: {unanswered.why}", why, "look again, and at the log of Redis"
    )


def _product(server: ServerFacts) -> Finding:
    if server.info_refused:
        remedy = "run doctor as a user who may (ACL SETUSER <user> +info)"
        return Finding("server", "note", f"unknown, because INFO is refused ({server.info_refused})", "", remedy)
    if server.product is None:
        return Finding("server", "note", "unknown, because INFO names no version")
    found = f"{server.product} {server.version}, up {duration(server.uptime_s * 1000)}"
    if server.product == "Redis" and _version(server.version) < OLDEST_REDIS:
        oldest = ".".join(map(str, OLDEST_REDIS))
        why = "the scripts use what older servers do not have"
        return Finding("server", "error", found, why, f"upgrade to Redis {oldest} or newer, or to Valkey")
    if server.product not in KNOWN_PRODUCTS:
        return Finding("server", "note", f"{found}; arq_web is tested on Redis and Valkey only")
    return Finding("server", "ok", found)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _eviction(server: ServerFacts, cli: str) -> Finding:
    policy = server.memory.policy
    if policy is None:
        return Finding("eviction", "note", f"maxmemory-policy is unknown, because INFO does not name it; {_CONSOLE}")
    if policy == "noeviction":
        return Finding("eviction", "ok", "maxmemory-policy is noeviction")
    victims = "keys that have an end: results, dead jobs, and what makes a repeated claim safe"
    why = f"when memory runs short, Redis deletes {'waiting jobs' if policy.startswith('allkeys') else victims}"
    remedy = _set_config(server, cli, "maxmemory-policy", "noeviction")
    return Finding("eviction", "error", f"maxmemory-policy is {policy}", why, remedy)


def _memory(server: ServerFacts, cli: str) -> Finding:
    used, limit = server.memory.used_bytes, server.memory.limit_bytes
    if used is None or limit is None:
        return Finding("memory", "note", f"unknown, because INFO does not tell; {_CONSOLE}")
    if limit == 0:
        why = "without a limit it is the kernel that ends a Redis which has grown too large"
        limit_it = _set_config(server, cli, "maxmemory", "<limit>")
        remedy = f"give it about three quarters of the host's memory: {limit_it}"
        return Finding("memory", "note", f"{_size(used)} used, no limit (maxmemory 0)", why, remedy)
    share = used / limit
    found = f"{_size(used)} of {_size(limit)} used ({share:.0%})"
    if share <= FULL_SHARE:
        return Finding("memory", "ok", found)
    why = "a full Redis takes no new jobs"
    more = _set_config(server, cli, "maxmemory", "<more>")
    remedy = f"let workers drain the queues, or keep results for less long (keep_result); or give it more: {more}"
    return Finding("memory", "error" if share >= 1 else "warning", found, why, remedy)


def _persistence(server: ServerFacts, cli: str) -> Iterator[Finding]:
    disk = server.disk
    if disk.has_aof is None:
        yield Finding("persistence", "note", f"unknown, because INFO does not tell; {_CONSOLE}")
        return
    yield _durability(server, disk, cli)
    for what, state in (("append-only file", disk.aof_write), ("rewrite of the append-only file", disk.aof_rewrite)):
        if disk.has_aof and state not in (None, "ok"):
            why = "what is not on disk is lost with the process"
            yield Finding("persistence", "error", f"the last write to the {what} failed", why, _SEE_DISK)
    if disk.snapshot not in (None, "ok"):
        why = "Redis refuses all writes while its snapshots fail (stop-writes-on-bgsave-error)"
        yield Finding("persistence", "error", "the last snapshot (BGSAVE) failed", why, _SEE_DISK)


def _durability(server: ServerFacts, disk: DiskFacts, cli: str) -> Finding:
    use_aof = _set_config(server, cli, "appendonly", "yes")
    if disk.has_aof:
        if disk.appendfsync == "no":
            why = "a host that crashes loses what the kernel has not written yet, up to about 30 s of jobs"
            remedy = _set_config(server, cli, "appendfsync", "everysec")
            return Finding("persistence", "warning", "append-only file, appendfsync no", why, remedy)
        word = disk.appendfsync or "unknown (CONFIG GET is refused)"
        return Finding("persistence", "ok", f"append-only file, appendfsync {word}")
    if disk.save is None:
        found = f"no append-only file; snapshots unknown, because CONFIG GET is refused; {_CONSOLE}"
        return Finding("persistence", "warning", found, "jobs since the last snapshot are lost in a crash", use_aof)
    if disk.save:
        found = f"snapshots only ({_rules(disk.save)}), no append-only file"
        return Finding("persistence", "warning", found, "a crash loses every job since the last snapshot", use_aof)
    found = "nothing is written to disk: no append-only file, no snapshots"
    return Finding("persistence", "warning", found, "a restart of Redis loses every job", use_aof)


def _rules(save: str) -> str:
    """``3600 1 300 100`` in words."""
    words = save.split()
    pairs = zip(words[::2], words[1::2], strict=False)
    return ", ".join(f"after {seconds} s if {changes} changed" for seconds, changes in pairs)


def _replication(server: ServerFacts, target: RedisTarget, cli: str) -> Finding:
    facts = server.replication
    if facts.role is None:
        return Finding("replication", "note", f"unknown, because INFO does not tell; {_CONSOLE}")
    if facts.role != "master":
        why = "a replica takes no writes: no job can be enqueued or run"
        remedy = f"put the master into the URL ({facts.master}), or let sentinels name it: redis+sentinel://..."
        return Finding("replication", "error", f"it is a replica of {facts.master}", why, remedy)
    if not facts.replica_count:
        return Finding("replication", "ok", "master, no replicas")
    found = f"master, {facts.replica_count} replica{'s'[: facts.replica_count != 1]}"
    if facts.min_replica_count is None:
        return Finding("replication", "ok", f"{found}; min-replicas-to-write unknown (CONFIG GET is refused)")
    if facts.min_replica_count == 0:
        why = "a replaced master goes on taking jobs for up to 10 s, after a planned failover too, and loses them"
        remedy = _set_config(server, cli, "min-replicas-to-write", "1")
        if facts.replica_count == 1:
            remedy += "; have two replicas first: the one that is promoted would have none left, and refuse writes"
        status: Status = "warning" if target.kind == "sentinel" else "note"
        return Finding("replication", status, f"{found}, min-replicas-to-write 0", why, remedy)
    return Finding("replication", "ok", f"{found}, min-replicas-to-write {facts.min_replica_count}")


def _cluster(server: ServerFacts, target: RedisTarget) -> Iterator[Finding]:
    cluster = server.cluster
    if cluster is None:
        if target.kind == "cluster":
            why = "the URL says redis+cluster://"
            yield Finding("cluster", "error", "this server is in no cluster", why, "write redis:// in the URL")
        return
    shards = f"{cluster.shard_count or 'unknown'} shard{'s'[: cluster.shard_count != 1]}"
    if cluster.state not in (None, "ok"):
        why = "a cluster that does not have all its slots refuses commands"
        remedy = f"see {redis_cli(target)} CLUSTER INFO, and redis-cli --cluster check <host>:<port>"
        yield Finding("cluster", "error", f"cluster_state is {cluster.state}", why, remedy)
    elif target.kind != "cluster" and (cluster.shard_count or 0) > 1:
        why = "each queue is on one of the nodes, and this one refuses the others'"
        yield Finding(
            "cluster", "error", f"{shards}; the URL names one server", why, "write redis+cluster:// in the URL"
        )
    else:
        yield Finding("cluster", "ok", shards)


# -- the line -----------------------------------------------------------------------------


def _line(line: Line | Unanswered, config: Config) -> Iterator[Finding]:
    if isinstance(line, Unanswered):
        yield Finding("latency", "error", f"not measured: {line.why}", "every step of a job is such an answer")
        return
    yield _latency(line, config)
    yield _lease(line, config)
    ahead = (
        f"Redis is {abs(line.clock_ahead_ms):.0f} ms {'ahead of' if line.clock_ahead_ms > 0 else 'behind'} this host"
    )
    if abs(line.clock_ahead_ms) > CLOCK_MS:
        why = "at= and expires= with a datetime are off by that much; leases and delays go by Redis' clock alone"
        yield Finding("clock", "warning", ahead, why, "synchronise both hosts (NTP)")
    else:
        yield Finding("clock", "ok", ahead)


def _latency(line: Line, config: Config) -> Finding:
    worst_ms = config.command_deadline_s * 1000 / 10
    found = f"median {line.median_ms:.2f} ms, worst {line.worst_ms:.2f} ms of {len(line.answers_ms)} answers"
    if line.median_ms <= SLOW_MS and line.worst_ms <= worst_ms:
        return Finding("latency", "ok", found)
    why = f"each job costs a few answers, and one that takes {config.command_deadline_s:g} s counts as lost"
    remedy = "run workers near Redis; look for slow commands (SLOWLOG GET) and a busy host; or raise command_deadline_s"
    return Finding("latency", "warning", found, why, remedy)


def _lease(line: Line, config: Config) -> Finding:
    found = f"lease_s {config.lease_s:g}, command_deadline_s {config.command_deadline_s:g}"
    if line.worst_ms <= config.lease_s * 1000 / 10:
        return Finding("lease", "ok", found)
    why = "a worker whose renewals come late loses its jobs to others, which run them again"
    remedy = f"raise lease_s (ARQ_WEB_LEASE_S={max(10, round(line.worst_ms / 100))}), or mend the latency"
    return Finding("lease", "warning", f"{found}; the worst answer took {line.worst_ms:.0f} ms", why, remedy)


_CONSOLE = "check it in your provider's console"
_SEE_DISK = "look into the log of Redis: the disk is full, not writable, or memory does not suffice to fork"


def _set_config(server: ServerFacts, cli: str, name: str, value: str) -> str:
    if server.config_refused:
        return f"set {name} to {value} in your provider's console (CONFIG is refused here)"
    return f"{cli} CONFIG SET {name} {value}, and in redis.conf: {name} {value}"


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
