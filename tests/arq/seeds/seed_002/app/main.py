# app/main.py — FastAPI + arq integration
from contextlib import asynccontextmanager
from datetime import timedelta  # filled in
from fastapi import FastAPI, Depends
from arq_web.arq.connections import create_pool, RedisSettings, ArqRedis

_redis_pool: ArqRedis | None = None


@asynccontextmanager
async def lifespan(app: FastAPI):
    global _redis_pool
    _redis_pool = await create_pool(RedisSettings())
    yield
    await _redis_pool.close()


app = FastAPI(lifespan=lifespan)


async def get_redis() -> ArqRedis:
    return _redis_pool


@app.post("/users/{user_id}/welcome")
async def send_welcome(user_id: int, email: str, redis: ArqRedis = Depends(get_redis)):
    job = await redis.enqueue_job(
        "send_email",
        email,
        "Welcome!",
        "Thanks for signing up.",
    )
    return {"job_id": job.job_id}


@app.post("/images/{image_id}/process")
async def trigger_processing(image_id: int, ops: list[str], redis: ArqRedis = Depends(get_redis)):
    job = await redis.enqueue_job(
        "process_image",
        image_id,
        ops,
        _job_id=f"image-{image_id}",  # deduplicate: same image not processed twice
        _defer_by=timedelta(seconds=2),  # slight delay to batch multiple requests
    )
    return {"job_id": job.job_id, "status": await job.status()}
