"""Which app: ``module:name``, its mistakes and their messages, factories, the environment file."""

from __future__ import annotations

import pytest

from arq_web import Queue
from tests.cli.shop import tell
from tests.support.projects import SHOP, TINY_APP, Project

WRONG = {
    "nowhere:app": "there is no module 'nowhere' here",
    "nowhere.at.all:app": "there is no module 'nowhere' here",
    "main:nope": "module 'main' has no 'nope' (did you mean 'app'?)",
    "main:aap": "module 'main' has no 'aap' (did you mean 'app'?)",
    "main:nothing.x": "has no 'x'",
    "main:": "one side of the colon is empty",
    ":app": "one side of the colon is empty",
    "main.py": "it is the path of a file, not the name of a module",
    "./main:app": "it is the path of a file, not the name of a module",
    "main:plain": "a Plain has no ArqWeb: add ArqWeb(app)",
    "main:make": "it is a function; if it makes the app, add --factory",
    "main:App": "a type has no ArqWeb: add ArqWeb(app)",
    "main.App": "App has neither functions nor cron_jobs, as worker settings have; an app is written with a colon",
    "main.Nope": "module 'main' has no 'Nope'",
}


@pytest.mark.parametrize(("target", "why"), WRONG.items())
async def test_a_target_that_leads_nowhere_is_a_message_and_status_2(project: Project, target: str, why: str) -> None:
    """Each mistake has its own words; nobody needs our traceback for a typing error."""
    project.write("main.py", TINY_APP + "\nclass Plain: ...\nplain = Plain()\ndef make(): return app\n")

    finished = await project.run(target, "--burst")

    assert finished.code == 2
    assert finished.err.startswith(f"Error: Cannot load {target!r}: ")
    assert why in finished.err
    assert "Traceback" not in finished.err


async def test_an_import_that_fails_inside_the_app_is_shown_as_it_is(project: Project) -> None:
    """``No module named 'main'`` would be a lie about main.py, which is there."""
    project.write("main.py", "import helpers\n")
    project.write("helpers.py", "import not_installed\n")

    finished = await project.run("main:app")

    assert finished.code == 1
    assert "ModuleNotFoundError: No module named 'not_installed'" in finished.err
    assert "helpers.py" in finished.err
    assert "importlib" not in finished.err.replace("importlib._bootstrap", "")
    assert "arq_web/cli" not in finished.err


async def test_our_own_error_in_the_app_names_the_line_and_needs_no_traceback(project: Project) -> None:
    """A wrong option of a task is found at import; its place is what one needs to know."""
    project.write("main.py", "from arq_web import task\n\n@task(max_tries=0)\nasync def f() -> None: ...\n")

    finished = await project.run("main:app")

    assert finished.code == 2
    assert "max_tries=0 is out of range" in finished.err
    assert "main.py:3" in finished.err
    assert "Traceback" not in finished.err


async def test_app_is_the_default_name(project: Project) -> None:
    """As in ``app-worker main``."""
    project.write("main.py", TINY_APP)

    finished = await project.run("main", "--burst")

    assert finished.code == 0
    assert "for main:app;" in finished.err


@pytest.mark.parametrize("how", [("tests.cli.shop:create_app", "--factory"), ("tests.cli.shop:create_app()",)])
async def test_a_factory_makes_the_app(project: Project, how: tuple[str, ...]) -> None:
    """Either spelling; the second is also what a child process is told."""
    finished = await project.run(*how, "--burst")

    assert finished.code == 0
    assert "for tests.cli.shop:create_app();" in finished.err


async def test_factory_for_something_that_is_none_is_refused(project: Project) -> None:
    """Instead of calling the app without a scope."""
    project.write("main.py", TINY_APP)

    finished = await project.run("main:app", "--factory")

    assert finished.code == 2
    assert "it is not a factory but an App; leave out --factory" in finished.err


async def test_the_app_may_be_wrapped_in_middleware(project: Project) -> None:
    """What one gives to uvicorn is what one gives to us."""
    wrapper = """
class Middleware:
    def __init__(self, app): self.app = app
    async def __call__(self, scope, receive, send): await self.app(scope, receive, send)

wrapped = Middleware(Middleware(app))
"""
    project.write("main.py", TINY_APP + wrapper)

    finished = await project.run("main:wrapped", "--burst")

    assert finished.code == 0


async def test_another_directory_can_hold_the_app(project: Project) -> None:
    """As uvicorn's --app-dir."""
    (project.folder / "src").mkdir()
    project.write("src/main.py", TINY_APP)

    finished = await project.run("main:app", "--burst", "--app-dir", "src")

    assert finished.code == 0


async def test_the_environment_file_is_read_before_the_import_and_does_not_win(project: Project, queue: Queue) -> None:
    """Settings modules read the environment when they are imported; the deployment's is stronger than a file."""
    jobs = [await queue.enqueue(tell, name) for name in ("A", "B", "C", "D", "E", "REDIS_URL")]
    lines = (
        "# a comment",
        "",
        "A=plain # a comment",
        "export B='single # $B'",
        'C="two\\nlines"',
        "D=from the file",
        "E=",
        f"REDIS_URL={project.env['REDIS_URL']}",
    )
    project.write(".env", "\n".join(lines))

    finished = await project.run(SHOP, "--burst", "--env-file", ".env", env={"D": "set", "REDIS_URL": None})
    told = [(await job.result(timeout=1)).removeprefix("worker ") for job in jobs]

    assert finished.code == 0
    assert told == ["plain", "single # $B", "two\nlines", "set", "", project.env["REDIS_URL"]]


@pytest.mark.parametrize("line", ["no equals sign", "A='open", "1A=x", "A='x' y"])
async def test_a_wrong_line_in_the_environment_file_is_named_but_not_shown(project: Project, line: str) -> None:
    """It may hold a secret."""
    project.write(".env", f"A=1\n{line}\n")

    finished = await project.run(SHOP, "--env-file", ".env")

    assert finished.code == 2
    assert ".env:2" in finished.err
    assert line not in finished.err


async def test_an_undeclared_queue_is_refused(project: Project) -> None:
    """A worker of a queue that nobody fills would look healthy for ever."""
    finished = await project.run(SHOP, "--queue", "mial")

    assert finished.code == 2
    assert "queue='mial'" in finished.err


async def test_help_is_there_in_both_spellings_and_shows_options_and_commands(project: Project) -> None:
    """The default command's options are those that most people look for."""
    for flag in ("-h", "--help"):
        finished = await project.run(flag)

        assert finished.code == 0
        for text in ("app-worker main:app --queue mail", "--drain-timeout", "Commands:", "routes", "jobs", "check"):
            assert text in finished.out


async def test_the_version_is_told(project: Project) -> None:
    """For bug reports."""
    finished = await project.run("--version")

    assert finished.out.startswith("app-worker ")
