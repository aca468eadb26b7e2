"""A process that enqueues one call again and again: ``python -m tests.chaos.enqueuers <word> <threads> <times>``.

``<word>`` is ``id`` or ``unique``. It says "ready", waits for a line, lets each of its threads enqueue from a loop of
its own, all at once, and prints the handles as JSON: a list of [id, created].
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from arq_web import Config, Queue
from tests.chaos.shop import nap

NAME = "the-one"


async def enqueue_often(word: str, times: int, everybody_is_here: threading.Barrier) -> list[tuple[str, bool]]:
    """Enqueue the call ``times`` times at once, when all other threads are connected too."""
    call = nap.options(id=NAME) if word == "id" else nap.options(unique=NAME)
    async with Queue.connect(os.environ["REDIS_URL"], config=Config.from_env()) as queue:
        await queue.store.server_now_ms()
        await asyncio.to_thread(everybody_is_here.wait)
        jobs = await asyncio.gather(*(queue.enqueue(call, 300) for _ in range(times)))
    return [(job.id, job.created) for job in jobs]


def main(word: str, threads: int, times: int) -> None:
    """Enqueue in all threads, print what came of it."""
    everybody_is_here = threading.Barrier(threads + 1)
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(asyncio.run, enqueue_often(word, times, everybody_is_here)) for _ in range(threads)]
        print("ready", flush=True)
        sys.stdin.readline()
        everybody_is_here.wait()
        handles = [handle for each in running for handle in each.result()]
    print(json.dumps(handles), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
