"""What differs between Litestar 2.25 and 3.0, and how Litestar looks at a function: in one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

from litestar.di import Provide
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import BaseRoute
from litestar.types import Empty
from litestar.typing import FieldDefinition

IS_V3 = int(version("litestar").split(".")[0]) >= 3


def handlers_of(route: BaseRoute) -> list[HTTPRouteHandler]:
    """The HTTP handlers of a route."""
    handlers: Iterable[object] = getattr(route, "route_handlers", ())
    return [handler for handler in handlers if isinstance(handler, HTTPRouteHandler)]


def providers_of(handler: BaseRouteHandler) -> Mapping[str, Provide]:
    """The dependencies that ``handler`` sees, by name: its own and those of the layers above it."""
    found: Any = handler.dependencies if IS_V3 else handler.resolve_dependencies()
    providers: Mapping[str, Provide] = found or {}
    return providers


def response_options_of(handler: HTTPRouteHandler) -> dict[str, Any]:
    """How what ``handler`` returns is written: its own options and those of the layers above it.

    To be read before the handler is made to answer 202.
    """
    if IS_V3:  # a registered handler has them from all layers
        layered: dict[str, Any] = {name: getattr(handler, name) for name in (*_LAYERED, "return_dto")}
    else:
        layered = {
            "response_class": handler.resolve_response_class(),
            "response_headers": list(handler.resolve_response_headers()),
            "response_cookies": list(handler.resolve_response_cookies()),
            "type_encoders": handler.resolve_type_encoders(),
            "after_request": _nearest(handler, "after_request", None, None),
            "return_dto": _nearest(handler, "return_dto", Empty, _nearest(handler, "dto", Empty, Empty)),
        }
    return {"media_type": handler.media_type or None, **layered}


def _nearest(handler: HTTPRouteHandler, name: str, unset: object, default: object) -> Any:
    """What the handler, or the nearest of the layers above it, says of an option."""
    said = [getattr(layer, name) for layer in handler.ownership_layers if getattr(layer, name) is not unset]
    return said[-1] if said else default


_LAYERED = ("response_class", "response_headers", "response_cookies", "type_encoders", "after_request")


def parameters_of(provider: Provide) -> list[FieldDefinition]:
    """What a dependency asks for itself."""
    return list(provider.parsed_fn_signature.parameters.values())


def reads_body(name: str, providers: Mapping[str, Provide]) -> bool:
    """Tell whether the dependency of that name, or one that it asks for, takes something of the request's body."""
    seen, waiting = set[str](), [name]
    while waiting:
        found = waiting.pop()
        if found in providers and found not in seen:
            seen.add(found)
            waiting += [each.name for each in parameters_of(providers[found])]
        elif found in ("data", "body"):
            return True
    return False


def function_of(handler: BaseRouteHandler) -> Callable[..., object]:
    """What the user decorated, without the wrappers for threads, controllers and partials."""
    fn: Any = handler.fn
    while True:
        inner = getattr(fn, "__func__", None) or without_wrapper(fn)
        if inner is fn:
            return fn  # type: ignore[no-any-return]
        fn = inner


def without_wrapper(fn: Any) -> Any:
    """A function without what lets it be awaited, or called with arguments that it has not."""
    is_wrapped = isinstance(fn, functools.partial) or type(fn).__name__ == "AsyncCallable"
    return fn.func if is_wrapped else fn


def controller_of(handler: BaseRouteHandler) -> object | None:
    """The controller whose method the handler is, or None."""
    controller: object | None = getattr(handler.fn, "__self__", None)
    return controller


def look_like(target: Any, signature: inspect.Signature) -> None:
    """Give a callable object the face of the ``async def`` with this signature.

    Litestar reads a handler by ``inspect.signature``, ``get_type_hints`` and ``inspect.iscoroutinefunction``, also when
    a controller has bound it. Each of them takes an object for a function that has these attributes (that is how they
    see compiled functions); without ``__call__`` among them, it is the class's own that would be read.
    """
    hints = {p.name: p.annotation for p in signature.parameters.values() if p.annotation is not p.empty}

    async def face(*args: object, **kwargs: object) -> object:
        return await target(*args, **kwargs)

    vars(target).update(
        __code__=face.__code__,
        __defaults__=None,
        __kwdefaults__=None,
        __call__=face,
        __signature__=signature,
        __annotations__={**hints, "return": signature.return_annotation},
    )
