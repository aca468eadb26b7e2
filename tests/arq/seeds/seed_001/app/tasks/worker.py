# app/tasks/worker.py — ARQ worker definition
from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings

from app import settings  # filled in
from app.stand_ins import process_and_resize as _process_and_resize, send_email as _send_email  # filled in


# ── Task functions: these run in the worker process ───────────────────────────
async def send_welcome_email(ctx: dict, user_id: int, email: str, name: str) -> None:
    """
    ctx is injected by ARQ and contains shared resources (db pool, etc.)
    Set up in on_startup and torn down in on_shutdown.
    """
    db = ctx["db_pool"]  # use connection from startup pool
    try:
        await _send_email(email, "Welcome!", f"Hi {name}!")
        print(f"Welcome email sent to {email}")
    except Exception as e:
        print(f"Email failed: {e}")
        raise  # re-raise to trigger ARQ retry logic


async def resize_post_image(ctx: dict, image_path: str, post_id: int) -> str:
    """Resize an uploaded post image in the background."""
    result_path = await _process_and_resize(image_path)
    # Update database with new image path
    async with ctx["db_pool"].acquire() as conn:
        await conn.execute("UPDATE posts SET image_url = $1 WHERE id = $2", result_path, post_id)
    return result_path


# ── Worker startup/shutdown: runs once when worker starts ────────────────────
async def on_startup(ctx: dict) -> None:
    import asyncpg

    ctx["db_pool"] = await asyncpg.create_pool(
        dsn=settings.database_url,
        min_size=2,
        max_size=5,
    )


async def on_shutdown(ctx: dict) -> None:
    await ctx["db_pool"].close()


# ── Worker configuration ──────────────────────────────────────────────────────
class WorkerSettings:
    functions = [send_welcome_email, resize_post_image]
    on_startup = on_startup
    on_shutdown = on_shutdown
    redis_settings = RedisSettings(host=settings.redis_host, port=6379)
    max_jobs = 10  # concurrent jobs per worker
    job_timeout = 300  # seconds before job is considered failed
    keep_result = 3600  # keep result in Redis for 1 hour
    retry_jobs = True
    max_tries = 3  # retry failed jobs up to 3 times
