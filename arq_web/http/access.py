"""Who may look at a job, and whose it is. Who may not gets the answer of an unknown job."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from arq_web.http.asked import Asked
from arq_web.job import JobInfo
from arq_web.store.keys import is_name

Authorize = Callable[[Any, JobInfo], "bool | Awaitable[bool]"]
"""``(request, job) -> bool``, ``def`` or ``async def``. What it raises is the app's own answer."""
OwnerOf = Callable[[Any], "str | Awaitable[str | None] | None"]
"""``(request) -> str``: who asks, by a name that stays the same (a user's id); None for nobody in particular."""

_RANDOM_ID = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}")
"""What ``uuid4().hex`` looks like, and so every id of our own making. One that was chosen may look like it, too."""
_REFUSED = range(400, 500)


@dataclass(frozen=True, slots=True)
class Access:
    """The app's rule. Without one, knowing a job's random id is the right to look at it.

    With ``owner`` a job that was submitted by somebody is theirs alone; one that was enqueued by other code has no
    owner, and is for whoever knows its random id. ``authorize`` decides alone, also about ids that the caller chose.
    """

    authorize: Authorize | None = None
    owner: OwnerOf | None = None

    async def principal(self, asked: Asked) -> str | None:
        """Who asks; None without ``owner``, or when it says so."""
        if self.owner is None:
            return None
        found = self.owner(asked.request)
        return await found if inspect.isawaitable(found) else found

    def may_exist(self, job_id: str) -> bool:
        """False for an id that nobody can see here: then Redis is not asked. Else its record decides."""
        return is_name(job_id) if self.authorize is not None else _RANDOM_ID.fullmatch(job_id) is not None

    async def looker(self, asked: Asked) -> str | None:
        """Who wants to see a job, where that counts: not with ``authorize``, which decides alone.

        To be asked before Redis is: what ``owner`` raises is the same answer then, whether there is such a job or not.
        """
        return None if self.authorize is not None else await self.principal(asked)

    async def may_list(self, asked: Asked, info: JobInfo, principal: str | None) -> bool:
        """Tell whether a job belongs in the list of ``principal``: there its id is told, so knowing it is no right."""
        if self.authorize is None:
            return info.owner is not None and await self.may_look(asked, info, principal)
        try:
            return await self.may_look(asked, info, principal)
        except Exception as error:
            if getattr(error, "status_code", None) in _REFUSED:  # the framework's exception: no to this job, not to all
                return False
            raise

    async def may_look(self, asked: Asked, info: JobInfo, principal: str | None) -> bool:
        """Tell whether the caller, who is ``principal``, may see this job (and cancel it)."""
        if self.authorize is not None:
            allowed = self.authorize(asked.request, info)
            return bool(await allowed if inspect.isawaitable(allowed) else allowed)
        if info.is_id_chosen or not self.may_exist(info.id):
            return False
        return self.owner is None or info.owner is None or info.owner == principal
