# --8<-- [start:app]
import asyncio

from fastapi import FastAPI

from arq_web.fastapi import INJECTED, ArqWeb, Progress, Queue, background_job, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


app = FastAPI()
ArqWeb(app, tasks=[send_welcome])


@app.post("/signup/{user_id}")
async def signup(user_id: int, queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(send_welcome, user_id)
    return {"job": job.id}


@app.post("/reports/{month}", status_code=202)
@background_job
async def report(month: str, progress: Progress = INJECTED) -> dict[str, str]:
    for step in range(10):
        await progress(step / 10, "counting")
        await asyncio.sleep(1)
    return {"month": month, "report": "all is well"}


# --8<-- [end:app]
