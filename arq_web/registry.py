"""The tasks of one app, by name. Nothing is global, so two apps in one process do not meet. Pure."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from arq_web.errors import DuplicateTask, InvalidTask, UnknownTask
from arq_web.task import Task

TaskSource = Task[..., Any] | ModuleType | str
"""A task, a module (all tasks in it), or a dotted name of either."""


class Registry:
    """Tasks by name and alias."""

    def __init__(self, sources: Iterable[TaskSource] = ()) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._by_name: dict[str, Task[..., Any]] = {}
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
                raise DuplicateTask(name, _where(other), _where(task))
        for name in (task.name, *task.aliases):
            self._by_name[name] = task
        self._tasks[task.name] = task

    def find(self, name: str) -> Task[..., Any] | None:
        """The task of that name or alias, or None."""
        return self._by_name.get(name)

    def get(self, name: str) -> Task[..., Any]:
        """The task of that name or alias.

        Raises:
            UnknownTask: says which name is close.
        """
        task = self._by_name.get(name)
        if task is None:
            raise UnknownTask(name, self._by_name)
        return task


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


def _where(task: Task[..., Any]) -> str:
    code = getattr(task.fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(task.fn)
