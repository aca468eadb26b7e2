"""Where a child process finds a task: in a module that it can import, or in the web app."""

from __future__ import annotations

import inspect
import operator
import sys
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, cast

from arq_web.errors import InvalidTask
from arq_web.registry import Registry
from arq_web.task import Task, default_name
from arq_web.worker.attempt import OWN_KINDS
from arq_web.worker.child_protocol import FromApp, FromModule, Source


class Sources:
    """Finds the source of each task of one registry, once."""

    def __init__(self, registry: Registry, app_target: str | None, *, only_app: bool = False) -> None:
        """Of one registry.

        Args:
            registry: the app's tasks.
            app_target: ``module:name`` of the app; None looks for it among the loaded modules.
            only_app: a module alone does not do: the app has middleware, which a child must have too.
        """
        self._registry, self._app_target, self._only_app = registry, app_target, only_app
        self._is_app_searched = app_target is not None
        self._known: dict[str, Source | InvalidTask] = {}

    def find(self, task: Task[..., Any]) -> Source:
        """Say where a child finds ``task``.

        Raises:
            InvalidTask: nowhere: it lives inside a function, and no app is known that a child could load.
        """
        known = self._known.get(task.name)
        if known is None:
            known = self._known[task.name] = self._search(task)
        if isinstance(known, InvalidTask):
            raise known.with_traceback(None)
        return known

    def _search(self, task: Task[..., Any]) -> Source | InvalidTask:
        if not self._only_app and OWN_KINDS.issuperset(task.injected.values()):
            found = _in_module(task)
            if found is not None:
                return found
        if not self._is_app_searched:
            self._app_target, self._is_app_searched = _target_of_app(self._registry), True
        if self._app_target is not None:
            return FromApp(self._app_target)
        if self._only_app:
            return InvalidTask(
                task.name,
                "its app has middleware, which a child process needs too, and no module has that app at its top level",
                "Make the app (or the Hub) at the top level of a module, or run it with app-worker module:app.",
            )
        return InvalidTask(
            task.name,
            "a process task must be importable by a child process, and no module has it as a name at its top level",
            "Define it at the top level of a module, or run it with app-worker module:app.",
        )


def find_task(module: ModuleType, path: str, name: str) -> Task[..., Any] | None:
    """The task of that name or alias: at ``path`` in ``module`` (in a class, perhaps), or anywhere at its top level."""
    candidates = list(vars(module).values())
    with suppress(AttributeError):
        candidates.insert(0, operator.attrgetter(path)(module))
    tasks = (found for found in candidates if isinstance(found, Task))
    return next((found for found in tasks if name in (found.name, *found.aliases)), None)


def _in_module(task: Task[..., Any]) -> FromModule | None:
    module_name, path = getattr(task.fn, "__module__", ""), getattr(task.fn, "__qualname__", "?")
    module = sys.modules.get(module_name)
    if module is None or find_task(module, path, task.name) is not task:
        return None
    name = _importable_name(module_name)
    return None if name == "__main__" else FromModule(name, path)


def _target_of_app(registry: Registry) -> str | None:
    """Look through the loaded modules for the app of this registry: an embedded worker is told no target."""
    for name, module in list(sys.modules.items()):
        for attribute, value in list(vars(module).items()) if isinstance(module, ModuleType) else ():
            if _registry_of(value) is registry:
                return f"{_importable_name(name)}:{attribute}"
    return None


def _registry_of(value: object) -> object:
    """The registry of an app that has a hub, or of a hub; None for the thousands of other things that modules hold."""
    if isinstance(value, (type, ModuleType, FunctionType, str, int)):
        return None
    # Looked up without asking the object first: some invent any attribute that they are asked for, or raise.
    is_hub, is_app = (_has(value, name) for name in ("queue_names", "state"))
    if not is_hub and not is_app:
        return None
    try:
        hub = cast("Any", value) if is_hub else cast("Any", value).state.arq_web
        return cast("object", hub.registry)
    except Exception:  # noqa: BLE001 - not an app of ours; what its property raises is its own affair
        return None


def _has(value: object, name: str) -> bool:
    return inspect.getattr_static(value, name, None) is not None


def _importable_name(module: str) -> str:
    """Under which name another process can import ``module``: the one that runs as main has another one."""
    if module != "__main__":
        return module

    def here() -> None: ...

    here.__module__ = module
    return default_name(here).partition(":")[0]
