"""Where a job's routes are: the links of every answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, get_args
from urllib.parse import quote

import msgspec

from arq_web.queue import DEFAULT_QUEUE

RouteName = Literal["status", "result", "events", "cancel", "list", "delete"]
ROUTE_NAMES: Final[tuple[RouteName, ...]] = get_args(RouteName)
DEFAULT_ROUTES: Final[frozenset[RouteName]] = frozenset({"status", "result", "events", "cancel"})
_VALID = re.compile(r"(?!//)(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")


def encoded_path(path: str) -> str:
    """A path as it may stand in a header and in a link: a valid one as it is, of any other all but its slashes encoded.

    The prefix of a proxy or a mount says whatever it likes: letters of all languages, ``>``, line ends, ``//host``.
    """
    if _VALID.fullmatch(path):
        return path
    return quote(re.sub("^/{2,}", "/", path), safe="/", errors="replace")


class Links(msgspec.Struct, omit_defaults=True):
    """Where to go from here; without the routes that the app has left out."""

    self: str = ""
    result: str = ""
    events: str = ""
    cancel: str = ""


@dataclass(frozen=True, slots=True)
class JobPaths:
    """Paths of jobs under ``base``, as the client sees it, as far as the app has those routes."""

    base: str
    routes: Collection[RouteName] = DEFAULT_ROUTES

    def job(self, job_id: str, queue: str, action: str = "") -> str:
        """``/jobs/{id}``, ``/jobs/{id}/result``; ``?queue=NAME`` for another queue than the default one."""
        path = f"{encoded_path(self.base)}/{quote(job_id, safe='')}{action and '/' + action}"
        return path if queue == DEFAULT_QUEUE else f"{path}?queue={quote(queue, safe='')}"

    def links(self, job_id: str, queue: str) -> Links:
        """All of a job's."""
        shown = {name: self.job(job_id, queue, name) for name in ("result", "events", "cancel") if name in self.routes}
        return Links(self.job(job_id, queue) if "status" in self.routes else "", **shown)

    def headers(self, job_id: str, queue: str) -> dict[str, str]:
        """``Location`` and ``Link`` of a 202."""
        links = self.links(job_id, queue)
        words = []
        if links.events:
            words.append(f'<{links.events}>; rel="monitor"; type="text/event-stream"')
        if links.result:
            words.append(f'<{links.result}>; rel="related"')
        found = {"location": links.self, "link": ", ".join(words)}
        return {name: value for name, value in found.items() if value}
