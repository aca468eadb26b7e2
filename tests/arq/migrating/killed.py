"""``app-worker migrate-arq`` that is killed at its n-th command: ``python killed.py <n> before|during|after [arguments]``."""

import os
import signal
import sys
from itertools import count

from redis.asyncio.connection import AbstractConnection


def is_greeting(command: bytes | list[bytes]) -> bool:
    """Whether redis-py says hello with it."""
    start = command if isinstance(command, bytes) else b"".join(command)
    return any(word in start[:40] for word in (b"HELLO", b"CLIENT", b"SELECT", b"PING"))


def main():
    import arq_web.arq._migrate as migrate
    from arq_web.cli import main as app_worker

    migrate._PAGE_COUNT = 3
    last, moment = int(sys.argv[1]), sys.argv[2]
    numbers = count(1)
    send = AbstractConnection.send_packed_command

    async def send_or_die(self, command, *args, **kwargs):
        is_last = not is_greeting(command) and next(numbers) == last
        if is_last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await send(self, command, *args, **kwargs)
        if is_last:
            if moment == "after":
                await self.read_response()
            os.kill(os.getpid(), signal.SIGKILL)

    AbstractConnection.send_packed_command = send_or_die
    app_worker(["migrate-arq", *sys.argv[3:]])


if __name__ == "__main__":
    main()
