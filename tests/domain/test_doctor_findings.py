"""From facts about a Redis to what ``doctor`` says of it: no server is asked here."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from arq_web import Config
from arq_web.cli.doctor_findings import judge, redis_cli
from arq_web.cli.finding import Finding, findings_json, findings_text
from arq_web.store.examination import Examination, Line, NamespaceFacts, ParkedJobs, QueueFacts
from arq_web.store.inspection import QueueCounts, Reject
from arq_web.store.server_facts import (
    ClusterFacts,
    DiskFacts,
    MemoryFacts,
    ReplicationFacts,
    SentinelAnswer,
    ServerFacts,
    Unanswered,
)
from arq_web.store.target import RedisTarget
from arq_web.store.trial import Lack, PushTrial, Refusal, Trial

SERVER = ServerFacts(
    queues=("default",),
    product="Redis",
    version="7.4.1",
    run_id="a",
    uptime_s=3600,
    memory=MemoryFacts("noeviction", 100 << 20, 10 << 20),
    disk=DiskFacts(True, "everysec", "", "ok", "ok", "ok"),
    replication=ReplicationFacts("master", "", 0, 0),
    key_count=12,
)
QUEUE = QueueFacts("default", is_declared=True, counts=QueueCounts(1000, 0, 0, 0, 0, 0), worker_count=1)
FIT = Examination(
    RedisTarget.from_url("redis://localhost"),
    "aw",
    user="default",
    addresses=("127.0.0.1",),
    line=Line((0.2,) * 20, 3.0),
    servers=[SERVER],
    trials={"default": Trial("default")},
    push=PushTrial(round_trip_ms=0.4),
    keys=NamespaceFacts(20_000, key_count=12),
    queues={"default": QUEUE},
)


def judged(facts: Examination, config: Config | None = None, known: Collection[str] = ()) -> list[Finding]:
    return judge(facts, config or Config(), "main:app", lambda name: name in known)


def not_ok(facts: Examination, config: Config | None = None, known: Collection[str] = ()) -> list[Finding]:
    return [each for each in judged(facts, config, known) if each.status != "ok"]


def with_server(**changes: object) -> Examination:
    return replace(FIT, servers=[replace(SERVER, **changes)])  # type: ignore[arg-type]


def with_queue(**changes: object) -> Examination:
    return replace(FIT, queues={"default": replace(QUEUE, **changes)})  # type: ignore[arg-type]


def test_a_fit_redis_has_only_ok_lines() -> None:
    """One per check."""
    findings = judged(FIT)

    assert {each.status for each in findings} == {"ok"}
    assert len({each.check for each in findings}) == len(findings)


@pytest.mark.parametrize(
    ("product", "version", "status"),
    [
        ("Redis", "6.0.16", "error"),
        ("Redis", "5.0.7", "error"),
        ("Redis", "6.2.0", "ok"),
        ("Redis", "10.0.1", "ok"),
        ("Valkey", "8.0.1", "ok"),
        ("Dragonfly", "1.21.2", "note"),
        (None, "", "note"),
    ],
)
def test_old_servers_are_errors(product: str | None, version: str, status: str) -> None:
    """Versions are compared as numbers; Valkey began above ours."""
    [server] = [each for each in judged(with_server(product=product, version=version)) if each.check == "server"]

    assert server.status == status


@pytest.mark.parametrize(
    ("changes", "check", "status", "said"),
    [
        ({"memory": MemoryFacts("allkeys-lru", 9, 1)}, "eviction", "error", "waiting jobs"),
        ({"memory": MemoryFacts("volatile-ttl", 9, 1)}, "eviction", "error", "keys that have an end"),
        ({"memory": MemoryFacts(None, 9, 1)}, "eviction", "note", "provider's console"),
        ({"memory": MemoryFacts("noeviction", 100, 81)}, "memory", "warning", "takes no new jobs"),
        ({"memory": MemoryFacts("noeviction", 100, 100)}, "memory", "error", "takes no new jobs"),
        ({"memory": MemoryFacts("noeviction", 0, 100)}, "memory", "note", "kernel"),
        ({"memory": MemoryFacts("noeviction")}, "memory", "note", "provider's console"),
        ({"disk": DiskFacts(True, "no", "", "ok", "ok", "ok")}, "persistence", "warning", "appendfsync everysec"),
        ({"disk": DiskFacts(True, "always", "", "err", "ok", "ok")}, "persistence", "error", "append-only file failed"),
        ({"disk": DiskFacts(True, "always", "", "ok", "err", "ok")}, "persistence", "error", "rewrite"),
        ({"disk": DiskFacts(True, "always", "", "ok", "ok", "err")}, "persistence", "error", "BGSAVE"),
        ({"disk": DiskFacts(False, None, None)}, "persistence", "warning", "snapshots unknown"),
        ({"disk": DiskFacts(False, None, "60 1 9 2")}, "persistence", "warning", "after 9 s if 2 changed"),
        ({"disk": DiskFacts(False, None, "")}, "persistence", "warning", "loses every job"),
        ({"disk": DiskFacts()}, "persistence", "note", "unknown"),
        ({"replication": ReplicationFacts("slave", "10.0.0.1:6379")}, "replication", "error", "10.0.0.1:6379"),
        ({"replication": ReplicationFacts("master", "", 2, 0)}, "replication", "note", "min-replicas-to-write 1"),
        ({"replication": ReplicationFacts()}, "replication", "note", "unknown"),
        ({"cluster": ClusterFacts("fail", 3)}, "cluster", "error", "cluster_state is fail"),
        ({"cluster": ClusterFacts("ok", 3)}, "cluster", "error", "redis+cluster://"),
    ],
)
def test_what_is_wrong_with_a_server_is_one_finding(
    changes: dict[str, object], check: str, status: str, said: str
) -> None:
    """With what to change."""
    [finding] = not_ok(with_server(**changes))

    assert (finding.check, finding.status) == (check, status)
    assert said in f"{finding.found} {finding.why} {finding.remedy}"
    assert status == "note" or (finding.why and finding.remedy)


def test_sentinels_that_may_fail_over_a_master_which_does_not_wait_for_replicas_are_a_warning() -> None:
    """Measured: a planned failover lost four of five jobs that were enqueued in the ten seconds after it."""
    facts = with_server(replication=ReplicationFacts("master", "", 1, 0))
    target = RedisTarget.from_url("redis+sentinel://10.0.0.1,10.0.0.2/mymaster/0")

    findings = {finding.check: finding for finding in judged(replace(facts, target=target))}

    assert findings["replication"].status == "warning"
    assert "two replicas" in findings["replication"].remedy


def test_a_replica_count_is_fine_where_writes_wait_for_replicas() -> None:
    """Or where nobody may ask whether they do."""
    for replication in (ReplicationFacts("master", "", 2, 1), ReplicationFacts("master", "", 2, None)):
        assert not_ok(with_server(replication=replication)) == []


def test_a_server_that_refuses_info_has_notes_only() -> None:
    """What cannot be known is no fault."""
    findings = not_ok(with_server(info_refused="NOPERM", config_refused="NOPERM"))

    assert {each.status for each in findings} == {"note"}
    assert {each.check for each in findings} == {"server", "eviction", "memory", "persistence", "replication"}


@pytest.mark.parametrize(
    ("why", "status", "said"),
    [
        ("it closed the connection", "warning", "imitations"),
        ("no reply within 2 s", "error", "did not answer: no reply"),
    ],
)
def test_a_server_that_does_not_answer_to_info_is_said(why: str, status: str, said: str) -> None:
    """The in-memory one for development hangs up."""
    [finding] = not_ok(replace(FIT, servers=Unanswered(why)))

    assert (finding.check, finding.status) == ("server", status)
    assert said in f"{finding.found} {finding.why}"


def test_a_remedy_where_config_is_refused_leads_to_the_console() -> None:
    """CONFIG SET would be refused as well."""
    [finding] = not_ok(with_server(memory=MemoryFacts("allkeys-lru", 9, 1), config_refused="unknown command"))

    assert finding.remedy == "set maxmemory-policy to noeviction in your provider's console (CONFIG is refused here)"


def test_findings_of_several_nodes_say_of_which_queues() -> None:
    """In a cluster, one node may be ill."""
    ill = replace(SERVER, run_id="b", queues=("mail", "slow"), memory=MemoryFacts("allkeys-lru", 9, 1))

    [finding] = not_ok(replace(FIT, servers=[SERVER, ill]))

    assert finding.found == "maxmemory-policy is allkeys-lru (node of mail, slow)"


@pytest.mark.parametrize(
    ("line", "config", "checks"),
    [
        (Line((4.9,) * 20, 0), Config(), set()),
        (Line((5.1,) * 20, 0), Config(), {"latency"}),
        (Line((1.0,) * 19 + (201.0,), 0), Config(), {"latency"}),
        (Line((1.0,) * 19 + (201.0,), 0), Config(command_deadline_s=4), set()),
        (Line((1.0,) * 19 + (801.0,), 0), Config(), {"latency", "lease"}),
        (Line((0.1,) * 20, 1001), Config(), {"clock"}),
        (Line((0.1,) * 20, -1001), Config(), {"clock"}),
    ],
)
def test_a_slow_line_and_a_wrong_clock_are_warnings(line: Line, config: Config, checks: set[str]) -> None:
    """Against what this app's deadlines allow."""
    findings = not_ok(replace(FIT, line=line), config)

    assert {each.check for each in findings} == checks
    assert {each.status for each in findings} <= {"warning"}


def test_a_clock_says_which_way_it_is_off() -> None:
    """Who has to be set is the next question."""
    [clock] = [each for each in judged(replace(FIT, line=Line((0.1,), -2500))) if each.check == "clock"]

    assert clock.found == "Redis is 2500 ms behind this host"


def refusing(*refusals: Refusal) -> Examination:
    return replace(FIT, user="app", trials={"default": Trial("default", refusals)})


def test_missing_rights_are_one_command_to_copy() -> None:
    """All of them, quoted for a shell, not as the user who lacks them."""
    target = RedisTarget.from_url("rediss://app:pw@db.example:6390/0")
    refusals = (Refusal("ZADD", Lack.COMMAND, ""), Refusal("DEL", Lack.COMMAND, ""), Refusal("GET", Lack.KEY, ""))

    [rights] = not_ok(replace(refusing(*refusals), target=target))

    assert rights.status == "error"
    assert rights.remedy == (
        "as an administrator: redis-cli -h db.example -p 6390 --tls ACL SETUSER app '~aw:*' +del +zadd, "
        "then ACL SAVE or CONFIG REWRITE"
    )


def test_rights_that_jobs_do_not_need_are_warnings() -> None:
    """`app-worker jobs` would miss them."""
    [rights] = not_ok(refusing(Refusal("SCAN", Lack.COMMAND, ""), Refusal("DUMP", Lack.COMMAND, "")))

    assert (rights.check, rights.status) == ("rights", "warning")


def test_a_command_that_the_server_lacks_is_no_right_to_grant() -> None:
    """It was renamed away."""
    [rights] = not_ok(refusing(Refusal("ZPOPMIN", Lack.SERVER, "unknown command")))

    assert rights.status == "error"
    assert "rename-command ZPOPMIN" in rights.remedy


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("READONLY You can't write against a read only replica.", "replica"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "full"),
        ("MISCONF Redis is configured to save RDB snapshots", "snapshots fail"),
        ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ("CLUSTERDOWN The cluster is down", "no job can be enqueued"),
    ],
)
def test_a_write_that_fails_is_an_error_with_its_cause(why: str, said: str) -> None:
    """And scripts are not judged by it."""
    findings = not_ok(replace(FIT, trials={"default": Trial("default", (), why, why)}))

    assert [(each.check, each.status) for each in findings] == [("writes", "error"), ("scripts", "note")]
    assert said in findings[0].why


def test_a_script_that_the_server_does_not_run_as_redis_does_is_an_error() -> None:
    """Some servers know EVAL, and allow only the keys that were given."""
    [scripts] = not_ok(replace(FIT, trials={"default": Trial("default", (), "", "undeclared key")}))

    assert (scripts.check, scripts.status) == ("scripts", "error")
    assert "undeclared key" in scripts.found


@pytest.mark.parametrize(
    ("push", "status", "said"),
    [
        (PushTrial(subscribe=Unanswered("NOPERM", is_refused=True)), "error", "'&aw:*'"),
        (PushTrial(publish=Unanswered("NOPERM", is_refused=True)), "warning", "+publish"),
        (PushTrial(), "warning", "did not arrive"),
        (Unanswered("no answer"), "warning", "no answer"),
    ],
)
def test_push_that_does_not_work_is_said(push: PushTrial | Unanswered, status: str, said: str) -> None:
    """Without SUBSCRIBE results cannot be awaited; without PUBLISH they come late."""
    [finding] = not_ok(replace(FIT, push=push))

    assert (finding.check, finding.status) == ("push", status)
    assert said in f"{finding.found} {finding.remedy}"


@pytest.mark.parametrize(
    ("unreached", "said"),
    [
        (Unanswered("WRONGPASS invalid", is_refused=True), "does not let us in"),
        (Unanswered("no connection within 2 s"), "firewall"),
        (Unanswered("Error 111 connecting to x:1. Connect call failed"), "nothing listens"),
        (Unanswered("the name 'x' cannot be resolved (-2)"), "without an address"),
        (Unanswered("LOADING Redis is loading the dataset in memory"), "from disk"),
        (Unanswered("it closed the connection"), "no job is taken"),
    ],
)
def test_a_redis_that_is_not_reached_is_one_error_with_its_cause(unreached: Unanswered, said: str) -> None:
    """Nothing else is known then, and nothing else is said."""
    [finding] = judged(replace(FIT, unreached=unreached))

    assert (finding.check, finding.status) == ("connection", "error")
    assert said in finding.why
    assert finding.remedy


def test_a_login_that_lacks_a_right_is_told_which() -> None:
    """Before Redis 7, a user without the dangerous commands may not even say its name."""
    why = "this user has no permissions to run the 'client' command or its subcommand"

    [finding] = judged(replace(FIT, unreached=Unanswered(why, is_refused=True)))

    assert "ACL SETUSER default +client," in finding.remedy


@pytest.mark.parametrize(
    ("url", "address", "said"),
    [
        ("redis://db:6379", "8.8.8.8", "public network"),
        ("rediss://db:6379?ssl_cert_reqs=none", "10.0.0.1", "certificate is not checked"),
    ],
)
def test_a_line_that_others_can_read_is_a_warning(url: str, address: str, said: str) -> None:
    """Arguments of jobs are personal data, often enough."""
    [finding] = not_ok(replace(FIT, target=RedisTarget.from_url(url), addresses=(address,)))

    assert (finding.check, finding.status) == ("connection", "warning")
    assert said in f"{finding.found} {finding.why}"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://db", "10.0.0.1"),
        ("rediss://db", "8.8.8.8"),
        ("unix:///tmp/r.sock", ""),
        ("redis://db", "fe80::1%eth0"),
    ],
)
def test_a_private_or_an_encrypted_line_is_fine(url: str, address: str) -> None:
    """Most Redis servers stand in a private network."""
    assert not_ok(replace(FIT, target=RedisTarget.from_url(url), addresses=(address,))) == []


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ([("a:1", "m:1", ""), ("b:1", "m:1", "")], "ok", "2 of 2 name m:1"),
        ([("a:1", "m:1", "")], "note", "only one"),
        ([("a:1", "m:1", ""), ("b:1", "", "no answer")], "warning", "b:1 (no answer)"),
        ([("a:1", "m:1", ""), ("b:1", "m:2", "")], "warning", "2 of 2 name m:1 and m:2"),
        ([("a:1", "", "no answer")], "error", "a:1 (no answer)"),
    ],
)
def test_sentinels_must_answer_and_agree(answers: list[tuple[str, str, str]], status: str, said: str) -> None:
    """One that is silent costs nothing until the others are, too."""
    target = RedisTarget.from_url("redis+sentinel://a:1,b:1/main")
    facts = replace(FIT, target=target, sentinels=[SentinelAnswer(*each) for each in answers])

    [finding] = [each for each in judged(facts) if each.check == "sentinels"]

    assert finding.status == status
    assert said in finding.found


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        (QueueCounts(0, 0, 0, 0, 0, 0), "note"),
        (QueueCounts(0, 3, 0, 0, 0, 0), "warning"),
        (QueueCounts(0, 0, 0, 1, 0, 0), "warning"),
        (QueueCounts(0, 0, 9, 0, 0, 0), "note"),
    ],
)
def test_a_queue_without_a_worker_is_a_warning_when_jobs_wait(counts: QueueCounts, status: str) -> None:
    """Before the first start of a worker nothing is wrong yet."""
    [finding] = not_ok(with_queue(counts=counts, worker_count=0))

    assert (finding.check, finding.status) == ("queue default", status)
    assert finding.remedy == "app-worker main:app --queue default"


def test_rejects_and_dead_jobs_say_how_to_look_at_them() -> None:
    """The newest reject is shown, its bytes escaped."""
    counts = QueueCounts(10_000, 0, 0, 0, 2, 3)
    facts = with_queue(counts=counts, newest_reject=Reject(4000, "claimed, but not readable", "x", b"\xff\x1b[2J"))

    rejects, dead = not_ok(facts)

    assert rejects.found == "3 rejected, the newest 6.0s ago: claimed, but not readable (\\xff\x1b[2J)"
    assert rejects.status == "warning"
    assert "--state rejected" in rejects.remedy
    assert dead.found == "2 dead jobs"
    assert dead.status == "note"
    assert "\x1b" not in findings_text([rejects])


@pytest.mark.parametrize(("known", "said"), [((), "aliases=['shop:old']"), (("shop:old",), "restart the workers")])
def test_parked_jobs_name_their_task_and_the_sample(known: tuple[str, ...], said: str) -> None:
    """Whether this app knows the task tells which side is out of date."""
    parked = (ParkedJobs("shop:old", "unknown_task", 7),)
    counts = QueueCounts(0, 0, 5000, 0, 0, 0)

    [finding] = not_ok(with_queue(counts=counts, due_looked_at=200, parked=parked), known=known)

    assert finding.status == "warning"
    assert "shop:old (7) (of the 200 due next, a sample of 5000)" in finding.found
    assert said in finding.remedy


def test_many_parked_tasks_are_cut() -> None:
    """A line is a line."""
    parked = tuple(ParkedJobs(f"t{i}", "undecodable", 1) for i in range(8))

    [finding] = not_ok(with_queue(parked=parked))

    assert "t4 (1), and 3 more" in finding.found


def test_leftovers_of_another_program_are_one_finding_however_many() -> None:
    """A prefix that is shared with a cache holds thousands of names."""
    keys = NamespaceFacts(100_000, is_complete=False, key_count=9, other_versions={"0": 1, "user1": 3, "user2": 5})

    own, foreign = not_ok(replace(FIT, keys=keys))

    assert "format version 0" in own.found
    assert "8 keys under aw: that no version" in foreign.found
    [database] = [each for each in judged(replace(FIT, keys=keys)) if each.check == "database"]
    assert database.found.endswith("among the first 100,000")


def test_a_queue_of_yesterday_is_a_warning_while_it_has_jobs() -> None:
    """Of an app that shares the namespace it is none: there a worker lives."""
    old = replace(QUEUE, name="old", is_declared=False, worker_count=0, counts=QueueCounts(0, 4, 0, 0, 0, 0))
    for queue, status in (
        (old, "warning"),
        (replace(old, worker_count=1), "note"),
        (replace(QUEUE, is_declared=False, worker_count=0), "note"),
    ):
        [finding] = not_ok(replace(FIT, queues={"default": QUEUE, "old": queue}))
        assert finding.status == status


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("redis://localhost", "redis-cli"),
        ("redis://127.0.0.1:6380/2", "redis-cli -p 6380 -n 2"),
        ("rediss://app:secret@db", "redis-cli -h db --tls --user app --askpass"),
        ("unix:///tmp/a b.sock", "redis-cli -s '/tmp/a b.sock'"),
        ("redis+cluster://a:1,b:2", "redis-cli -h '<its host>' -p '<its port>'"),
    ],
)
def test_the_command_to_copy_fits_the_url(url: str, command: str) -> None:
    """And never holds the password."""
    assert redis_cli(RedisTarget.from_url(url)) == command


def test_the_text_is_aligned_and_counted() -> None:
    """The last line says it all."""
    findings = [
        Finding("a", "ok", "fine"),
        Finding("longer", "error", "bad", "because", "do this"),
        Finding("b", "warning", "so so", "because", "do that"),
    ]

    assert findings_text(findings).splitlines() == [
        "ok       a       fine",
        "error    longer  bad",
        "                 do:  do this",
        "                 why: because",
        "warning  b       so so",
        "                 do:  do that",
        "                 why: because",
        "",
        "1 error, 1 warning, 0 notes, 1 ok",
    ]


def test_the_json_has_the_five_fields() -> None:
    """Empty ones too, so that nobody has to ask whether they are there."""
    assert json.loads(findings_json([Finding("a", "ok", "fine")])) == [
        {"check": "a", "status": "ok", "found": "fine", "why": "", "remedy": ""}
    ]
