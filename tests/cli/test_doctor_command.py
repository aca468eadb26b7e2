"""``app-worker doctor``: real servers in real bad states, and what it says of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as redis_async

from arq_web import Config, Queue, task
from arq_web.store.trial import tried_commands
from tests.cli.shop import fail, nap
from tests.docs.pages import DOCS, code_blocks
from tests.support.projects import ROOT, SHOP, TINY_APP, Finished, Project, project_in
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.sentinel import MASTER, NoSentinelMode, running_sentinels
from tests.support.waiting import wait_until

FIT = ("--appendonly", "yes", "--maxmemory", "64mb")
SERVER_CHECKS = ("eviction", "memory", "persistence", "replication")


@task(name="shop:renamed")
async def renamed() -> None:
    """Is not in the shop any more."""


class Report:
    """What ``doctor --json`` said."""

    def __init__(self, finished: Finished) -> None:
        self.code, self.findings = finished.code, finished.json

    def of(self, check: str) -> dict[str, Any]:
        """The worst finding of a check."""
        ranks = ["error", "warning", "note", "ok"]
        return min(
            (each for each in self.findings if each["check"] == check), key=lambda each: ranks.index(each["status"])
        )

    def status(self, check: str) -> str:
        """Its status."""
        return str(self.of(check)["status"])

    def having(self, status: str) -> set[str]:
        """The checks that have findings of that status."""
        return {each["check"] for each in self.findings if each["status"] == status}


async def examined(folder: Path, url: str, *flags: str) -> Report:
    """Let doctor look at the Redis at ``url``."""
    async with project_in(folder, url, "t") as project:
        return Report(await project.run("doctor", SHOP, "--json", *flags, within_s=12))


def ask(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


@contextmanager
def admin_of(server: RedisServer) -> Generator[redis.Redis]:
    with closing(redis.Redis(port=server.port)) as client:
        yield client


async def test_a_fit_redis_with_a_worker_has_nothing_to_mend(tmp_path: Path) -> None:
    """Also with ``--strict``: a check that always complains is switched off."""
    with running_redis(*FIT) as server:
        async with project_in(tmp_path, server.url, "t") as project:
            await project.start(SHOP)

            finished = await project.run("doctor", SHOP, "--strict")

        with admin_of(server) as admin:
            left = ask(admin, "KEYS", "*doctor*")
    assert finished.code == 0, finished.out
    assert re.search(r"^0 errors, 0 warnings, 0 notes, \d+ ok$", finished.out, re.MULTILINE)
    assert re.search(r"^ok +queue default +0 queued, .*; 1 worker$", finished.out, re.MULTILINE)
    assert left == []


async def test_the_text_is_one_aligned_line_per_check_and_says_below_it_what_to_do(tmp_path: Path) -> None:
    """A person reads it in a terminal, and copies the command."""
    with running_redis(*FIT, "--maxmemory-policy", "allkeys-lru") as server:
        async with project_in(tmp_path, server.url, "t") as project:
            finished = await project.run("doctor", SHOP)

    assert finished.code == 1
    lines = finished.out.splitlines()
    column = lines[0].index("redis://")
    [at] = [i for i, line in enumerate(lines) if line.startswith("error")]
    assert lines[at][column:] == "maxmemory-policy is allkeys-lru"
    assert f"redis-cli -p {server.port} CONFIG SET maxmemory-policy noeviction" in lines[at + 1][column:]
    assert lines[at + 2][column:] == "why: when memory runs short, Redis deletes waiting jobs"


async def test_the_report_in_the_docs_is_what_such_a_redis_gets(tmp_path: Path) -> None:
    """But for its numbers."""
    [shown] = [block for block in code_blocks(DOCS / "how-to/check-your-redis.md") if block.language == "text"]
    with running_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as server:
        async with project_in(tmp_path, server.url, "aw") as project:
            project.write("main.py", TINY_APP)
            finished = await project.run("doctor", "main:app")

    assert _without_numbers(finished.out) == _without_numbers(shown.text)


async def test_a_redis_that_evicts_is_mended_by_the_command_that_doctor_names(tmp_path: Path) -> None:
    """The remedy is run as it is written."""
    with running_redis("--maxmemory", "2mb", "--maxmemory-policy", "volatile-lru") as server:
        before = await examined(tmp_path, server.url)
        command = before.of("eviction")["remedy"].partition(" CONFIG ")[2].partition(",")[0]
        with admin_of(server) as admin:
            ask(admin, "CONFIG", *command.split())
        after = await examined(tmp_path, server.url)

    assert before.code == 1
    assert before.status("eviction") == "error"
    assert after.status("eviction") == "ok"


async def test_a_full_redis_is_an_error(tmp_path: Path) -> None:
    """It takes no new jobs; whoever looks for the reason finds it here."""
    with running_redis("--maxmemory", "3mb") as server:
        with admin_of(server) as admin, suppress(redis.OutOfMemoryError):
            for i in range(10_000):
                admin.set(f"ballast:{i}", b"x" * 10_000)
        report = await examined(tmp_path, server.url)

    assert report.status("memory") in ("warning", "error")
    assert report.status("writes") == "error"
    assert "full" in report.of("writes")["why"]


@pytest.mark.parametrize(
    ("options", "status", "found"),
    [
        (("--appendonly", "yes"), "ok", "appendfsync everysec"),
        (("--appendonly", "yes", "--appendfsync", "no"), "warning", "appendfsync no"),
        (("--save", "3600", "1"), "warning", "snapshots only (after 3600 s if 1 changed)"),
        ((), "warning", "nothing is written to disk"),
    ],
)
async def test_what_a_restart_would_cost_is_said(
    tmp_path: Path, options: tuple[str, ...], status: str, found: str
) -> None:
    """Jobs survive their workers; whether they survive Redis is the operator's choice, and should be one."""
    with running_redis("--maxmemory", "64mb", *options) as server:
        report = await examined(tmp_path, server.url)

    assert report.status("persistence") == status
    assert found in report.of("persistence")["found"]
    assert report.code == 0


async def test_strict_makes_warnings_count(tmp_path: Path) -> None:
    """For a deployment that wants none."""
    with running_redis("--maxmemory", "64mb") as server:
        lenient, strict = await examined(tmp_path, server.url), await examined(tmp_path, server.url, "--strict")

    assert lenient.having("warning") == strict.having("warning") == {"persistence"}
    assert (lenient.code, strict.code) == (0, 1)


async def test_a_disk_that_fails_is_an_error(tmp_path: Path) -> None:
    """Redis refuses all writes then, and says why only to those who ask."""
    with running_redis("--save", "3600", "1", "--dbfilename", "in-the-way") as server:
        (server.socket_path.parent / "in-the-way").mkdir()
        with admin_of(server) as admin:
            admin.set("a", 1)
            admin.bgsave()
            await wait_until(
                lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", description="a snapshot failed"
            )
        report = await examined(tmp_path, server.url)

    assert report.status("persistence") == "error"
    assert "MISCONF" in report.of("writes")["found"]


async def test_a_replica_is_named_with_its_master(tmp_path: Path) -> None:
    """It answers reads, so everything but the jobs seems to work."""
    with running_redis(*FIT) as master, running_redis("--replicaof", "127.0.0.1", str(master.port)) as replica:
        with admin_of(replica) as admin:
            await wait_until(lambda: admin.info("replication")["master_link_status"] == "up", description="it follows")
        of_replica = await examined(tmp_path, replica.url)
        of_master = await examined(tmp_path, master.url)

    assert f"replica of 127.0.0.1:{master.port}" in of_replica.of("replication")["found"]
    assert of_replica.having("error") == {"replication", "writes"}
    assert of_master.status("replication") == "note"
    assert "min-replicas-to-write" in of_master.of("replication")["remedy"]


@pytest.mark.parametrize(
    ("rules", "check", "named"),
    [
        (("~*", "&*", "+@all", "-eval"), "scripts", "EVAL is refused"),
        (("~*", "&*", "+@all", "-zpopmin", "-blpop"), "rights", "BLPOP, ZPOPMIN"),
        (("~aw:*", "&*", "+@all"), "rights", "keys t:*"),
        (("~*", "resetchannels", "+@all"), "push", "SUBSCRIBE failed"),
    ],
)
async def test_a_right_that_is_missing_is_named_and_the_remedy_gives_it(
    tmp_path: Path, rules: tuple[str, ...], check: str, named: str
) -> None:
    """The operator gets the very rule that is missing, and need not grant everything."""
    with running_redis(*FIT) as server, admin_of(server) as admin:
        ask(admin, "ACL", "SETUSER", "app", "on", ">s3cret", *rules)
        url = server.url.replace("//", "//app:s3cret@")
        before = await examined(tmp_path, url)
        for each in before.findings:
            if found := re.search(r"ACL SETUSER app (.*?), then", each["remedy"]):
                ask(admin, "ACL", "SETUSER", "app", *found[1].replace("'", "").split())
        after = await examined(tmp_path, url)

    assert before.code == 1
    assert before.status(check) == "error"
    assert named in before.of(check)["found"]
    assert after.having("error") == after.having("warning") == set()
    assert "s3cret" not in str(before.findings)


async def test_a_missing_right_to_publish_is_a_warning(tmp_path: Path) -> None:
    """Jobs run; only those who wait for results wait longer."""
    with running_redis(*FIT) as server, admin_of(server) as admin:
        ask(admin, "ACL", "SETUSER", "default", "-publish")
        report = await examined(tmp_path, server.url)

    assert report.having("error") == set()
    assert "+publish" in report.of("push")["remedy"]


async def test_a_managed_redis_that_refuses_config_is_judged_by_what_info_tells(tmp_path: Path) -> None:
    """Most providers rename CONFIG away; that is no fault of the user."""
    with running_redis(*FIT, "--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", "") as server:
        report = await examined(tmp_path, server.url)

    assert report.status("eviction") == "error"
    assert "provider's console" in report.of("eviction")["remedy"]
    assert report.status("persistence") == "ok"
    assert "unknown (CONFIG GET is refused)" in report.of("persistence")["found"]


async def test_what_nobody_may_ask_is_unknown_not_wrong(tmp_path: Path) -> None:
    """A user without the dangerous commands can run every job."""
    with running_redis(*FIT) as server, admin_of(server) as admin:
        ask(admin, "ACL", "SETUSER", "default", "-@dangerous", "+client")
        report = await examined(tmp_path, server.url)

    assert report.having("error") == report.having("warning") == set()
    assert all("unknown, because INFO is refused" in report.of(check)["found"] for check in SERVER_CHECKS)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/main"])
async def test_a_black_hole_is_an_error_within_ten_seconds(tmp_path: Path, url: str) -> None:
    """A firewall that drops packets; a deployment must not hang on it, however patient the app itself is."""
    with running_redis(*FIT) as server:
        async with running_proxy(server.port) as proxy:
            proxy.black_hole()
            began_at = time.monotonic()
            async with project_in(tmp_path, url.format(proxy.port), "t") as project:
                patient = {"ARQ_WEB_COMMAND_DEADLINE_S": "30", "ARQ_WEB_LEASE_S": "60"}
                report = Report(await project.run("doctor", SHOP, "--json", env=patient))
            took_s = time.monotonic() - began_at

    assert report.code == 1
    assert report.status("connection") == "error"
    assert "firewall" in report.of("connection")["why"]
    assert took_s < 10


async def test_a_redis_that_falls_silent_under_way_is_an_error_within_ten_seconds(tmp_path: Path) -> None:
    """Each question has its deadline, and all of them one together."""
    with running_redis(*FIT) as server:
        async with running_proxy(server.port) as proxy:
            proxy.swallow_reply_to(b"DBSIZE", times=10)
            began_at = time.monotonic()
            report = await examined(tmp_path, proxy.url)
            took_s = time.monotonic() - began_at

    assert report.code == 1
    assert report.status("connection") == "ok"
    assert report.status("server") == "error"
    assert report.status("writes") == "ok"
    assert took_s < 10


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1/0", "nothing listens there"),
        ("redis://no-such-host.invalid/0", "without an address"),
        ("redis+sentinel://127.0.0.1:1/mymaster", "nothing listens there"),
    ],
)
async def test_a_redis_that_is_not_there_is_an_error_with_its_cause(tmp_path: Path, url: str, said: str) -> None:
    """Not a traceback, and not a minute of silence."""
    report = await examined(tmp_path, url)

    assert report.code == 1
    assert said in report.of("connection")["why"]


async def test_a_wrong_password_is_an_error_and_not_shown(tmp_path: Path) -> None:
    """The report is pasted into tickets."""
    with running_redis(*FIT) as server, admin_of(server) as admin:
        admin.config_set("requirepass", "right")
        report = await examined(tmp_path, server.url.replace("//", "//:wr0ng@"))

    assert report.code == 1
    assert "does not let us in" in report.of("connection")["why"]
    assert "wr0ng" not in str(report.findings)


async def test_a_slow_line_is_a_warning(tmp_path: Path) -> None:
    """Workers on another continent work, slowly."""
    with running_redis(*FIT) as server:
        async with running_proxy(server.port) as proxy:
            proxy.delay_s = 0.02
            report = await examined(tmp_path, proxy.url)

    assert report.having("warning") == {"latency"}
    assert report.having("error") == set()


async def test_a_cluster_is_examined_too(tmp_path: Path) -> None:
    """First without its slots, then whole."""
    with running_redis(*FIT, "--cluster-enabled", "yes") as server, admin_of(server) as admin:
        url = server.url.replace("redis:", "redis+cluster:").removesuffix("/0")
        before = await examined(tmp_path, url)
        ask(admin, "CLUSTER", "ADDSLOTS", *range(16384))

        def is_up() -> bool:
            return "cluster_state:ok" in str(ask(admin, "CLUSTER", "INFO"))

        await wait_until(is_up, description="the cluster is up")
        after = await examined(tmp_path, url)

    assert before.having("error") == {"connection"}
    assert after.having("error") == after.having("warning") == set()
    assert "1 shard" in after.of("cluster")["found"]


async def test_each_sentinel_is_asked(tmp_path: Path) -> None:
    """One that is gone is missed only when the others go too."""
    try:
        with running_sentinels(tmp_path, *FIT) as watched:
            whole = await examined(tmp_path, watched.url)
            broken = await examined(tmp_path, watched.url.replace("://", "://127.0.0.1:1,"))
            misspelt = await examined(tmp_path, watched.url.replace(MASTER, "nobody"))
    except NoSentinelMode:
        pytest.skip("this server cannot be a sentinel")

    assert whole.status("sentinels") == "ok"
    assert whole.having("error") == set()
    assert broken.status("sentinels") == "warning"
    assert broken.having("error") == set()
    assert misspelt.having("error") == {"connection", "sentinels"}
    assert "'nobody'" in misspelt.of("sentinels")["found"]


@pytest.mark.leaves_keys("garbage is what it is about")
async def test_what_does_not_belong_there_is_found(
    project: Project, queue: Queue, redis: redis_async.Redis, namespace: str
) -> None:
    """Rejects, keys of another version, keys of another program, a queue of yesterday."""
    base = f"{namespace}:1:{{default}}:"
    await redis.set(f"{base}j:broken", b"\xff\xfe not a record\n")
    await redis.zadd(f"{base}ready", {"broken": 1})
    await project.run(SHOP, "--burst")
    await redis.set(f"{namespace}:7:{{default}}:j:x", b"from the future")
    await redis.set(f"{namespace}:session:1", b"of another program")
    async with Queue.connect(project.env["REDIS_URL"], "old", config=Config(namespace=namespace)) as old:
        await old.enqueue(nap, 1)

    report = Report(await project.run("doctor", SHOP, "--json"))

    assert "1 rejected" in report.of("queue default")["found"]
    assert "--state rejected" in report.of("queue default")["remedy"]
    leftovers = [each["found"] for each in report.findings if each["check"] == "leftovers"]
    assert "1 key of format version 7; this one is 1" in leftovers
    assert f"1 key under {namespace}: that no version of arq_web writes" in leftovers
    assert report.status("queue old") == "warning"
    assert "queues=[..., 'old']" in report.of("queue old")["remedy"]


async def test_jobs_that_nobody_can_run_are_found(project: Project, queue: Queue) -> None:
    """A task that was renamed: its jobs are parked for a day, and then dead."""
    async with Queue.connect(project.env["REDIS_URL"], config=queue.queues.config) as other:
        parked = await other.enqueue(renamed)
    dead = await queue.enqueue(fail, "luck")
    worker = await project.start(SHOP)
    await worker.says("job.parked")
    await worker.says("job.dead")

    with_worker = Report(await project.run("doctor", SHOP, "--json"))
    worker.send()
    await worker.ended()
    waiting = await queue.enqueue(nap, 1)
    without = Report(await project.run("doctor", SHOP, "--json"))
    for job in (parked, waiting):
        await job.cancel()

    found = " ".join(each["found"] for each in with_worker.findings if each["check"] == "queue default")
    assert "1 jobs have a task that no worker knows: shop:renamed (1) (of the 1 due next)" in found
    assert "1 dead job" in found
    assert "aliases=['shop:renamed']" in with_worker.of("queue default")["remedy"]
    whys = {each["why"] for each in without.findings if each["check"] == "queue default"}
    assert "jobs wait, and nobody runs them" in whys
    assert without.status("queue mail") == "note"
    assert dead.id


@pytest.mark.leaves_keys("a foreign key is what it is about")
async def test_a_key_of_another_type_spoils_only_its_queue(
    project: Project, redis: redis_async.Redis, namespace: str
) -> None:
    """The other questions are answered all the same."""
    await redis.set(f"{namespace}:1:{{mail}}:ready", b"not a sorted set")

    report = Report(await project.run("doctor", SHOP, "--json"))

    assert report.having("error") == {"queue mail"}
    assert "another type" in report.of("queue mail")["found"]


async def test_wrong_use_is_status_two(project: Project) -> None:
    """As with the other commands: 1 would say that something is wrong with Redis."""
    no_url, no_app, bad_url = await asyncio.gather(
        project.run("doctor", SHOP, env={"REDIS_URL": None, "CI": "true"}),
        project.run("doctor"),
        project.run("doctor", SHOP, env={"REDIS_URL": "http://localhost"}),
    )

    assert (no_url.code, no_app.code, bad_url.code) == (2, 2, 2)


def test_every_command_of_the_scripts_is_tried() -> None:
    """Whoever gives a script a new command gives doctor its trial."""
    called = re.compile(r"redis\.p?call\('([A-Z]+)'")
    scripts = (ROOT / "arq_web/store/lua").glob("*.lua")

    assert {name for path in scripts for name in called.findall(path.read_text())} <= tried_commands()


def _without_numbers(text: str) -> list[str]:
    text = re.sub(r"\b(up) \S+$", r"\1 0s", text, flags=re.MULTILINE)
    return [
        re.sub(r"\d+(\.\d+)*( [KM]iB)?", "0", line).replace("ahead of", "behind") for line in text.strip().splitlines()
    ]
