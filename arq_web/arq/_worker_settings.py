"""Worker settings as people write them: a class, an object or a dict."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_HOOKS = ("on_startup", "on_shutdown", "on_job_start", "on_job_end", "after_job_end")


def settings_of(given: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those of ``names`` that ``given`` has, inherited ones too.

    A hook may be a function, a static or class method, or a method with ``self``: then the class is instantiated, or is
    the ``self`` itself where that needs arguments.
    """
    if isinstance(given, Mapping):
        return {name: given[name] for name in names if name in given}
    found = {name: getattr(given, name) for name in names if hasattr(given, name)}
    if not inspect.isclass(given):
        return found
    instance = functools.cache(lambda: _instance_of(given))
    for name in _HOOKS:
        if _wants_self(found.get(name)):
            found[name] = functools.partial(_call_with_self, found[name], instance)
    return found


def _wants_self(hook: object) -> bool:
    """A plain function that must be given two things: ``(self, ctx)``."""
    if not inspect.isfunction(hook):
        return False
    needed = [
        each
        for each in inspect.signature(hook).parameters.values()
        if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 2


def _call_with_self(hook: Callable[..., Any], instance: Callable[[], object], ctx: dict[Any, Any]) -> Any:
    return hook(instance(), ctx)


def _instance_of(kind: type) -> object:
    try:
        return kind()
    except TypeError:
        return kind
