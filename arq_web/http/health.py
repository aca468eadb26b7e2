"""The health routes of a web app: those of the worker's own port, below a path of the app's choice."""

from __future__ import annotations

import re

from arq_web.errors import InvalidConfig
from arq_web.health.facts import Facts
from arq_web.health.routes import PATHS, HealthRoutes
from arq_web.http.answers import Answer
from arq_web.hub import Hub


class AppHealth:
    """Answers for a web process: its embedded worker, if it has one, and its queues."""

    def __init__(self, hub: Hub, path: str | None) -> None:
        """Ask nothing yet.

        Args:
            hub: the app's.
            path: where the routes are to be; None for none.

        Raises:
            InvalidConfig: that is no path.
        """
        if path is not None and not re.fullmatch(r"(/[^/{}?#]+)+", path):
            raise InvalidConfig("health_path", path, "a path such as '/-/jobs', or None")
        self.templates = {} if path is None else {each: path + each for each in PATHS}
        """The path of a route, as in ``HealthRoutes`` → where the app has it, ``{queue}`` for the name of one."""
        self._hub = hub
        self._routes = HealthRoutes(
            self._facts,
            lambda: [hub.queues.store(name) for name in hub.queue_names],
            metrics=lambda: hub.metrics,
        )

    async def answer(self, template: str, *, queue: str = "", accept: str = "", with_body: bool = True) -> Answer:
        """Answer a request.

        Args:
            template: one of ``templates``.
            queue: in the place of ``{queue}``.
            accept: the request's header of that name.
            with_body: False for HEAD.
        """
        said = await self._routes.answer(template.replace("{queue}", queue), accept)
        answer = Answer(said.status, {"cache-control": "no-store"}, said.body, said.media_type)
        return answer if with_body else answer.without_body()

    def _facts(self) -> Facts | None:
        if self._hub.embedded is None:
            return None
        vitals = self._hub.embedded.vitals  # none while one that has failed is started again
        # Its loop is the one that answers: who hears of it knows that it is not blocked.
        return Facts() if vitals is None else Facts.of(vitals)
