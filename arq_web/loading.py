"""From ``module:name`` to something to work for: import it, find its hub, live through its lifespan."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

from arq_web.errors import ImportFailed
from arq_web.hub import Hub
from arq_web.worker.worker import Worker

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

DEFAULT_NAME = "app"
_DEEPEST_WRAPPING = 20
_END_AFTER_FAILURE_S = 1.0


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """What a target led to: an app with a hub, a hub alone, a ready-made worker, or worker settings as arq has them."""

    target: str
    """``module:name``, or ``module:name()`` for a factory: loads the same thing again."""
    hub: Hub | None = None
    asgi: AsgiApp | None = None
    worker: Worker | None = None
    settings: object | None = None
    """A class, object or dict with ``functions`` or ``cron_jobs``: for ``arq_web.arq`` to read."""


class LifespanFailed(Exception):
    """The app's start-up (or shutdown) failed. ``message`` is the app's own; ``error`` what it raised, if it did."""

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        self.message, self.error = message, error
        super().__init__(message)


def load(target: str, *, is_factory: bool = False, app_dir: Path | None = None) -> LoadedApp:
    """Import ``target`` and find what to work for.

    Args:
        target: ``module:name``, ``module`` for its ``app``, ``module:name()`` for a factory, or, for worker settings,
            ``module.Name`` too.
        is_factory: the name is a function without arguments that makes the app.
        app_dir: put first on ``sys.path``; None leaves the path as it is.

    Raises:
        ImportFailed: there is no such module or name, or it is not an app with ArqWeb. An error inside the app's own
            module is raised as it is.
    """
    module_name, _, name = target.partition(":")
    is_factory, name = is_factory or name.endswith("()"), name.removesuffix("()")
    if (":" in target and not name) or not module_name:
        raise ImportFailed(target, "one side of the colon is empty")
    if module_name.endswith(".py") or "/" in module_name:
        raise ImportFailed(target, "it is the path of a file, not the name of a module")
    if app_dir is not None and (directory := str(app_dir.resolve())) not in sys.path[:1]:
        sys.path.insert(0, directory)
    module, name = _find(target, module_name, name)
    found = _attribute(target, module, name)
    if is_factory:
        found = _made_by(target, found)
    again = f"{module.__name__}:{name}" + ("()" if is_factory else "")
    return _recognised(again, found)


@asynccontextmanager
async def app_lifespan(app: AsgiApp) -> AsyncIterator[dict[str, Any]]:
    """Start ``app`` up, and shut it down at the end of the block, as an ASGI server does. Yields the lifespan's state.

    An app that does not know the lifespan protocol (it raises, or returns, before it has answered) is fine.

    Raises:
        LifespanFailed: its start-up failed.
    """
    state: dict[str, Any] = {}
    lifespan = _Lifespan(app, state)
    await lifespan.start_up()
    try:
        yield state
    finally:
        await lifespan.shut_down()


class _Lifespan:
    """One run of the app's lifespan, in a task of its own, for the app's cancel scopes must not cross ours."""

    def __init__(self, app: AsgiApp, state: dict[str, Any]) -> None:
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: dict[str, asyncio.Event] = {"startup": asyncio.Event(), "shutdown": asyncio.Event()}
        self._failure: str | None = None
        self._is_up = False
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self._task = asyncio.create_task(self._run(app, scope), name="arq_web.lifespan")

    async def start_up(self) -> None:
        try:
            answered = await self._ask("startup")
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait((self._task,))
            raise
        if self._failure is not None:
            raise LifespanFailed(self._failure, await self._raised())
        if not answered and isinstance(error := await self._raised(), (SystemExit, KeyboardInterrupt)):
            raise LifespanFailed(f"{type(error).__name__}: {error}", error)
        self._is_up = answered

    async def shut_down(self) -> None:
        if not self._is_up:
            return
        await self._ask("shutdown")
        if self._failure is None:
            await asyncio.wait((self._task,))
        error = await self._raised()
        if self._failure is not None or error is not None:
            raise LifespanFailed(self._failure or f"{type(error).__name__}: {error}", error)

    async def _ask(self, phase: str) -> bool:
        """False when the app ended instead of answering."""
        await self._requests.put({"type": f"lifespan.{phase}"})
        answer = asyncio.create_task(self._answers[phase].wait())
        try:
            await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
            return self._answers[phase].is_set()
        finally:
            answer.cancel()

    async def _run(self, app: AsgiApp, scope: Message) -> BaseException | None:
        """What the app raised, if anything: an exception must not end the loop, whatever its kind."""
        try:
            await app(scope, self._requests.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it means "no lifespan", or that it failed
            return error
        return None

    async def _raised(self) -> BaseException | None:
        await asyncio.wait((self._task,), timeout=_END_AFTER_FAILURE_S)
        if not self._task.done():
            self._task.cancel()
            return None
        return None if self._task.cancelled() else self._task.result()

    async def _send(self, message: Message) -> None:
        phase, _, word = message["type"].removeprefix("lifespan.").partition(".")
        if word == "failed":
            self._failure = str(message.get("message", ""))
        self._answers[phase].set()


def _find(target: str, module_name: str, name: str) -> tuple[ModuleType, str]:
    """The module, and the name to look up in it: ``tasks.WorkerSettings`` is what one writes for arq."""
    try:
        return _import(target, module_name), name or DEFAULT_NAME
    except ImportFailed:
        parent, _, last = module_name.rpartition(".")
        module = sys.modules.get(parent)
        if name or module is None:
            raise
        _refuse_other_classes(target, _attribute(target, module, last))
        return module, last


def _refuse_other_classes(target: str, found: object) -> None:
    if not is_worker_settings(found):
        what = f"{target.rpartition('.')[2]} has neither functions nor cron_jobs, as worker settings have"
        raise ImportFailed(target, f"{what}; an app is written with a colon, module:name") from None


def _import(target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise  # the module is there, but imports something that is not: that is for its author to see
        raise ImportFailed(target, f"there is no module {missing!r} here") from None


def is_worker_settings(found: object) -> bool:
    """True for what says which functions to run, as arq's users write it: a class, an object or a dict."""
    if isinstance(found, Mapping):
        return "functions" in found or "cron_jobs" in found
    if isinstance(found, (ModuleType, Hub, Worker)):
        return False
    return hasattr(found, "functions") or hasattr(found, "cron_jobs")


def _attribute(target: str, module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        if not hasattr(found, name):
            owner = f"module {module.__name__!r}" if found is module else repr(found)
            raise ImportFailed(target, f"{owner} has no {name!r}{_hint(name, found)}")
        found = getattr(found, name)
    return found


def _hint(name: str, owner: object) -> str:
    public = [word for word in vars(owner) if not word.startswith("_")] if hasattr(owner, "__dict__") else []
    apps = [word for word in public if hub_of(getattr(owner, word)) is not None]
    apps.sort(key=lambda word: isinstance(getattr(owner, word), Hub))  # an app rather than its hub
    near = difflib.get_close_matches(name, public, n=1) or apps[:1]
    return f" (did you mean {near[0]!r}?)" if near else ""


def _made_by(target: str, factory: object) -> object:
    if not callable(factory) or hub_of(factory) is not None:
        raise ImportFailed(target, f"it is not a factory but {_a(factory)}; leave out --factory")
    return factory()


def _recognised(target: str, found: object) -> LoadedApp:
    if isinstance(found, Worker):
        return LoadedApp(target, worker=found)
    if isinstance(found, Hub):
        return LoadedApp(target, hub=found)
    hub = hub_of(found)
    if hub is not None and callable(found):
        return LoadedApp(target, hub=hub, asgi=cast("AsgiApp", found))
    if is_worker_settings(found):
        return LoadedApp(target, settings=found)
    if inspect.isroutine(found):
        raise ImportFailed(target, "it is a function; if it makes the app, add --factory")
    raise ImportFailed(target, f"{_a(found)} has no ArqWeb: add ArqWeb(app)")


def hub_of(found: object) -> Hub | None:
    """The hub that the plugin left in the app's state (or is it itself); middleware around an app is looked through."""
    for _ in range(_DEEPEST_WRAPPING):
        if found is None or isinstance(found, (Hub, ModuleType, type)):
            break
        state = getattr(found, "state", None)
        hub = state.get("arq_web") if isinstance(state, Mapping) else getattr(state, "arq_web", None)
        if isinstance(hub, Hub):
            return hub
        found = getattr(found, "app", None)
    return found if isinstance(found, Hub) else None


def _a(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
