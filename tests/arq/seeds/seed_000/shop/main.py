# main.py (e.g., in your FastAPI app)
from fastapi import FastAPI  # filled in

from arq_web.arq import ArqRedis, create_pool
from redis.asyncio import Redis
from .tasks import send_email

app = FastAPI()  # filled in


@app.post("/signup")
async def sign_user_up(user_data: dict):
    # ... your logic to create a user ...
    redis: ArqRedis = await create_pool()  # Uses default Redis settings
    await redis.enqueue_job(
        "send_email",  # Name of the function to call
        to_address=user_data["email"],
        subject="Welcome!",
        body="Thanks for signing up.",
    )
    return {"status": "ok", "message": "User created, email queued."}
