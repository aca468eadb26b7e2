"""The tasks of one app, by name. Nothing is global, so two apps in one process do not meet. Pure."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from arq_web.errors import DuplicateTask, InvalidConfig, InvalidTask, UnknownTask
from arq_web.task import Task

TaskSource = Task[..., Any] | ModuleType | str
"""A task, a module (all tasks in it), or a dotted name of either."""


class Registry:
    """Tasks by name and alias."""

    def __init__(self, sources: Iterable[TaskSource] = ()) -> None:
        """Register what ``sources`` stand for.

        Raises:
            InvalidTask, DuplicateTask: one of them cannot be.
            InvalidConfig: it is one of them, instead of several.
        """
        self._tasks: dict[str, Task[..., Any]] = {}
        self._by_name: dict[str, Task[..., Any]] = {}
        self.find: Callable[[str], Task[..., Any] | None] = self._by_name.get
        """The task of that name or alias, or None. No method of its own: it is asked several times for each job."""
        if isinstance(sources, (str, Task, ModuleType)):
            raise InvalidConfig("tasks", sources, "a list of tasks, modules or dotted names: tasks=[...]")
        for source in sources:
            for task in tasks_of(source):
                self.add(task)

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and self._tasks.get(task.name) is task

    def add(self, task: Task[..., Any]) -> None:
        """Register ``task``; the same one again is fine.

        Raises:
            DuplicateTask: another task has its name or one of its aliases.
        """
        for name in (task.name, *task.aliases):
            other = self._by_name.get(name)
            if other is not None and other is not task:
                raise DuplicateTask(name, place_of(other), place_of(task))
        for name in (task.name, *task.aliases):
            self._by_name[name] = task
        self._tasks[task.name] = task

    def get(self, name: str) -> Task[..., Any]:
        """The task of that name or alias.

        Raises:
            UnknownTask: says which name is close.
        """
        task = self._by_name.get(name)
        if task is None:
            raise UnknownTask(name, self._by_name)
        return task

    def check(self, task: Task[..., Any]) -> None:
        """Refuse a task that is not registered here.

        Raises:
            UnknownTask: it is not; or another task has its name, and a worker would run that one.
        """
        known = self._by_name.get(task.name)
        if known is not task:
            raise UnknownTask(task.name, self._tasks, "" if known is None else place_of(known))


def tasks_of(source: TaskSource) -> list[Task[..., Any]]:
    """The tasks that ``source`` stands for.

    Raises:
        InvalidTask: it stands for none.
    """
    if isinstance(source, Task):
        return [source]
    if isinstance(source, str):
        return tasks_of(_import(source))
    if isinstance(source, ModuleType):
        found = [value for value in vars(source).values() if isinstance(value, Task)]
        if not found:
            raise InvalidTask(source.__name__, "the module has no task", "Decorate its functions with @task.")
        return list({id(task): task for task in found}.values())
    name = getattr(source, "__qualname__", repr(source))
    raise InvalidTask(name, "it is not a task", "Decorate it with @task, or pass a module or a dotted name.")


def place_of(task: Task[..., Any]) -> str:
    """``file:line`` of its function, for messages."""
    code = getattr(inspect.unwrap(task.fn), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(task.fn)


def _import(name: str) -> TaskSource:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # An import that fails inside the user's module is the user's to see; only the missing name itself is ours.
        parent, dot, last = name.replace(":", ".").rpartition(".")
        if not dot or error.name is None or not name.replace(":", ".").startswith(error.name):
            raise
        found = getattr(importlib.import_module(parent), last, None)
        if found is None:
            raise InvalidTask(name, f"module {parent!r} has no {last!r}", "Check the spelling.") from error
        return found  # type: ignore[no-any-return]
