"""``GET /jobs/{id}``: who may look, and what is answered."""

from __future__ import annotations

import re

from arq_web.errors import InvalidOption, JobNotFound, StoreUnavailable
from arq_web.http import answers
from arq_web.hub import Hub

_RANDOM_ID = re.compile(r"[0-9a-f]{32}")


async def job_status(hub: Hub, job_id: str, queue: str, base_path: str) -> answers.Answer:
    """One look at a job, for whoever knows its random id.

    A chosen id can be guessed (``order:1``, ``order:2``, ...): only a random one is a key to the job.
    """
    if not _RANDOM_ID.fullmatch(job_id):
        return answers.not_found(job_id)
    try:
        info = await hub.queue(queue).job(job_id).info()
    except (JobNotFound, InvalidOption):
        return answers.not_found(job_id)
    except StoreUnavailable:
        return answers.unavailable()
    return answers.status(info, base_path=base_path, detailed=hub.is_development)
