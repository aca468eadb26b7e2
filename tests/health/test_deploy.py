"""The files in deploy/: they parse, their numbers agree with the code's, and their commands do what they are for."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_sync
import yaml

from arq_web import Config
from arq_web.cli.running import SHUTDOWN_S
from arq_web.health.merged import CHILD_LIMIT_S
from arq_web.health.probes import MAX_LAG_S
from arq_web.health.routes import PATHS, REDIS_LIMIT_S
from arq_web.worker import worker as engine
from tests.docs.pages import ROOT, all_pages
from tests.health.support import HOST, becomes, status
from tests.support.ports import free_port
from tests.support.projects import Project, Running, project_in
from tests.support.redis_server import find_redis_server
from tests.support.waiting import wait_until

DEPLOY = ROOT / "deploy"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in DEPLOY.rglob("*") if path.is_file())
BIN = Path(sys.executable).parent
MAIN = "from tests.docs.examples.deployed_{} import app\n"
END_S = engine.INTERRUPT_LIMIT_S + engine.LEAVE_LIMIT_S + SHUTDOWN_S
"""What a worker may take after its drain: hand back what is left, say goodbye to Redis, the app's own shutdown."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def deployment() -> dict[str, Any]:
    return documents("kubernetes/worker.yaml")[0]


def container() -> dict[str, Any]:
    [found] = deployment()["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def compose() -> dict[str, Any]:
    [found] = documents("compose.yaml")
    return found


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd/shop-worker.service")
    return parser["Service"]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def program(words: list[str]) -> tuple[str, ...]:
    """A command of ours, as the environment of these tests has it installed."""
    return (str(BIN / Path(words[0]).name), *words[1:])


@pytest.fixture(params=["fastapi", "litestar"])
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, namespace: str
) -> AsyncIterator[Project]:
    """A project whose ``main:app`` is the example of the how-to."""
    async with project_in(tmp_path, redis_url, namespace) as project:
        project.write("main.py", MAIN.format(request.param))
        yield project


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_shown_by_a_page(name: str) -> None:
    """What nobody is shown nobody keeps up to date."""
    assert any(f'--8<-- "{name}' in page.read_text(encoding="utf-8") for page in all_pages())


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("deploy/kubernetes/")])
def test_a_manifest_says_what_it_is(name: str) -> None:
    for document in documents(name.removeprefix("deploy/")):
        assert {"apiVersion", "kind", "metadata", "spec"} == document.keys()


@pytest.mark.parametrize(
    ("where", "grace_s"),
    [
        ("kubernetes", float(deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])),
        ("systemd", seconds(unit()["TimeoutStopSec"])),
        ("compose", seconds(compose()["services"]["worker"]["stop_grace_period"])),
    ],
)
def test_who_kills_waits_for_the_drain_and_for_what_comes_after(where: str, grace_s: float) -> None:
    """By the defaults, and with a margin that the comments name."""
    assert grace_s == Config().drain_s + 10, where
    assert grace_s > Config().drain_s + END_S + 2


def test_probes_wait_longer_than_an_answer_may_take() -> None:
    """Else a silent Redis looks like a silent worker."""
    probes = {name: probe for name, probe in container().items() if name.endswith("Probe")}

    assert {probe["httpGet"]["path"] for probe in probes.values()} == {"/startupz", "/livez", "/readyz"}
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= set(PATHS)
    assert len(probes) == 3
    assert all(probe["timeoutSeconds"] > max(REDIS_LIMIT_S, CHILD_LIMIT_S) for probe in probes.values())
    assert all(probe["httpGet"]["port"] == "health" for probe in probes.values())


def test_a_blocked_loop_is_ended_after_the_minute_that_the_comment_names() -> None:
    """30 s until it says so, three probes until Kubernetes believes it."""
    probe = container()["livenessProbe"]

    assert MAX_LAG_S == 30
    assert probe["periodSeconds"] * probe["failureThreshold"] == 30


def test_the_health_port_is_the_same_everywhere() -> None:
    """In the command, in the container's ports, for Prometheus."""
    args = container()["args"]
    port = args[args.index("--health-port") + 1]
    annotations = deployment()["spec"]["template"]["metadata"]["annotations"]

    assert container()["ports"] == [{"name": "health", "containerPort": int(port)}]
    assert annotations["prometheus.io/port"] == port
    assert annotations["prometheus.io/path"] == "/metrics"


def test_selectors_and_names_fit_together() -> None:
    worker, budget = documents("kubernetes/worker.yaml")
    labels = worker["spec"]["template"]["metadata"]["labels"]

    assert worker["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    for name in ("keda-metrics-api", "keda-prometheus"):
        [scaled] = documents(f"kubernetes/{name}.yaml")
        assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]


def test_the_policy_lets_somebody_ask_the_health_port_of_the_workers_and_nothing_else() -> None:
    """By the names that the deployment gives."""
    [policy] = documents("kubernetes/network-policy.yaml")
    worker = deployment()["spec"]["template"]["metadata"]["labels"]
    [rule] = policy["spec"]["ingress"]

    assert policy["spec"]["podSelector"]["matchLabels"] == worker
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container()["ports"]]


def test_the_autoscalers_target_is_what_one_worker_runs() -> None:
    """The default of --concurrency."""
    [by_api], [by_prometheus] = (
        documents("kubernetes/keda-metrics-api.yaml"),
        documents("kubernetes/keda-prometheus.yaml"),
    )
    modifiers = by_api["spec"]["advanced"]["scalingModifiers"]
    triggers = by_api["spec"]["triggers"]

    assert modifiers["target"] == str(Config().concurrency)
    assert {trigger["metadata"]["targetValue"] for trigger in triggers} == {str(Config().concurrency)}
    assert set(re.findall(r"\w+", modifiers["formula"])) == {trigger["name"] for trigger in triggers}
    assert [trigger["metadata"]["threshold"] for trigger in by_prometheus["spec"]["triggers"]] == ["10"]


def test_prometheus_is_asked_for_metrics_that_there_are() -> None:
    """With labels that they have."""
    [scaled] = documents("kubernetes/keda-prometheus.yaml")
    [trigger] = scaled["spec"]["triggers"]
    families = (ROOT / "arq_web/metrics/families.py").read_text()

    found = re.findall(r'(arq_\w+)\{(\w+)="', trigger["metadata"]["query"])

    assert found == [("arq_queue_ready", "queue"), ("arq_queue_running", "queue")]
    assert all(f'"{name}"' in families for name, _ in found)


async def test_the_numbers_are_where_keda_looks_for_them(shop: Project) -> None:
    """In the web app of the how-to, and only for who comes from inside."""
    [scaled] = documents("kubernetes/keda-metrics-api.yaml")
    places = {each["metadata"]["url"]: each["metadata"]["valueLocation"] for each in scaled["spec"]["triggers"]}
    port = free_port()
    await serve_web(shop, ["uvicorn", "main:app", "--port", str(port)], port)

    for url, location in places.items():
        path = httpx.URL(url).path
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
            answer = await client.get(path)
            from_outside = await client.get(path, headers={"X-Forwarded-For": "203.0.113.9"})
        assert isinstance(answer.json()[location], int)
        assert from_outside.status_code == 404


async def test_the_command_of_the_deployment_answers_its_probes(shop: Project) -> None:
    """And ends in time at a SIGTERM."""
    port, args = free_port(), list(container()["args"])
    args[args.index("--health-port") + 1] = str(port)

    worker = await shop.start(*args[1:], program=program(args[:1]))
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        await becomes(port, container()[name]["httpGet"]["path"], 200)
    worker.send()

    assert await worker.ended(within_s=10) == 0


async def test_the_unit_starts_a_worker(shop: Project) -> None:
    """Its ExecStart, from its working directory."""
    port = free_port()
    words = shlex.split(unit()["ExecStart"].replace("8081", str(port)).replace("auto", "2"))

    worker = await shop.start(*words[1:], program=program(words[:1]))
    await becomes(port, "/readyz", 200)
    worker.send()

    assert words[0] == "/srv/shop/.venv/bin/app-worker"
    assert unit()["WorkingDirectory"] == "/srv/shop"
    assert await worker.ended(within_s=10) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Every key, every value; the program and its folder stand elsewhere on this machine."""
    text = (DEPLOY / "systemd/shop-worker.service").read_text()
    copy = tmp_path / "shop-worker.service"
    copy.write_text(text.replace("/srv/shop/.venv/bin/app-worker", str(BIN / "app-worker")))

    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)

    said = [line for line in verified.stderr.splitlines() if "shop-worker" in line]
    assert (said, verified.returncode) == ([], 0)


@pytest.mark.timeout(120)
async def test_the_commands_of_compose_run_together(shop: Project, tmp_path: Path) -> None:
    """Redis, the web app, the worker and its health check, with their environments: a job goes through all of them."""
    redis_port, web_port, health_port = free_port(), free_port(), free_port()
    services = compose()["services"]
    worker_service, web_service = services["worker"], services["web"]
    redis_words = shlex.split(services["redis"]["command"])
    (tmp_path / "data").mkdir()
    await shop.start(
        *redis_words[1:], "--port", str(redis_port), "--dir", str(tmp_path / "data"), is_up=False,
        program=(str(find_redis_server()),),
    )  # fmt: skip
    await wait_until(lambda: _answers(redis_port), description="Redis is there")

    def environment(service: dict[str, Any]) -> dict[str, str | None]:
        assert service["environment"]["REDIS_URL"] == "redis://redis:6379/0"
        own = {"REDIS_URL": f"redis://{HOST}:{redis_port}/0"}
        health = {"ARQ_WEB_HEALTH_PORT": str(health_port)} if "ARQ_WEB_HEALTH_PORT" in service["environment"] else {}
        return {**service["environment"], **own, **health}

    await serve_web(
        shop, shlex.split(web_service["command"].replace("8000", str(web_port))), web_port, environment(web_service)
    )
    words = shlex.split(worker_service["command"])
    worker = await shop.start(*words[1:], program=program(words[:1]), env=environment(worker_service))
    check = worker_service["healthcheck"]
    healthy = await _checked(shop, check["test"], environment(worker_service))
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{web_port}") as client:
        job = (await client.post("/signup/7")).json()["job"]

        async def has_succeeded() -> bool:
            return bool((await client.get(f"/jobs/{job}")).json()["state"] == "succeeded")

        await wait_until(has_succeeded, description="the job went through")
    worker.send()
    code = await worker.ended(within_s=10)
    unhealthy = await _checked(shop, check["test"], environment(worker_service))

    assert (healthy, code, unhealthy) == (0, 0, 1)
    assert check["test"][0] == "CMD"
    assert seconds(check["timeout"]) > float(check["test"][-1]) > REDIS_LIMIT_S
    with closing(redis_sync.Redis(HOST, redis_port)) as client_:
        assert client_.config_get("appendonly") == {"appendonly": "yes"}
        assert client_.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def serve_web(project: Project, words: list[str], port: int, env: dict[str, str | None] | None = None) -> Running:
    """Start the web app and wait until it answers."""
    running = await project.start(*words[1:], program=program(words[:1]), is_up=False, env=env)
    try:
        await becomes(port, "/-/jobs/livez", 200)
    except BaseException:
        sys.stderr.write(running.log)
        raise
    assert await status(port, "/livez") == 404
    return running


async def _checked(project: Project, test: list[str], env: dict[str, str | None]) -> int:
    """Run the health check of a container."""
    finished = await project.start(*test[2:], program=program(test[1:2]), env=env, is_up=False)
    return await finished.ended(within_s=10)


def _answers(port: int) -> bool:
    with closing(redis_sync.Redis(HOST, port)) as client:
        try:
            return bool(client.ping())
        except redis_sync.ConnectionError:
            return False
