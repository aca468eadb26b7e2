# --8<-- [start:app]
import asyncio

from litestar import Litestar, post
from litestar.params import FromPath

from arq_web.litestar import INJECTED, ArqWeb, Progress, Queue, background_job, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


@post("/signup/{user_id:int}")
async def signup(user_id: FromPath[int], queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(send_welcome, user_id)
    return {"job": job.id}


@post("/reports/{month:str}", status_code=202)
@background_job
async def report(month: FromPath[str], progress: Progress = INJECTED) -> dict[str, str]:
    for step in range(10):
        await progress(step / 10, "counting")
        await asyncio.sleep(1)
    return {"month": month, "report": "all is well"}


app = Litestar([signup, report], plugins=[ArqWeb(tasks=[send_welcome])])
# --8<-- [end:app]
