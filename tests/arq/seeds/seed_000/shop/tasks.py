# tasks.py
import asyncio  # filled in

from redis.asyncio import Redis  # filled in


async def send_email(ctx, to_address, subject, body):
    # ctx is the job context, more on that in a bit
    fake_email_server = ctx["email_server"]
    print(f"Pretending to send '{subject}' to {to_address}...")
    await asyncio.sleep(2)  # Simulate IO delay
    print("Email sent! (Not really)")


async def process_image(ctx, image_path):
    print(f"Crunching pixels for {image_path}...")
    await asyncio.sleep(5)
    print("Image processed!")


# tasks.py (appended)
class WorkerSettings:
    functions = [send_email, process_image]
    redis_settings = Redis.from_url("redis://localhost:6379")


FirstWorkerSettings = WorkerSettings  # filled in: the next class has the same name
from stand_ins import get_aws_client, get_database_connection_pool  # filled in


# tasks.py (appended to WorkerSettings)
class WorkerSettings:
    functions = [send_email, process_image]
    redis_settings = Redis.from_url("redis://localhost:6379")

    async def on_startup(self, ctx):
        # This runs once when the worker starts
        ctx["db_pool"] = await get_database_connection_pool()
        ctx["s3_client"] = get_aws_client()
        ctx["email_server"] = "the fake email server"  # filled in: send_email reads it, nobody sets it
        print("Worker has started up, resources ready.")

    async def on_shutdown(self, ctx):
        # This runs once when the worker shuts down
        await ctx["db_pool"].close()
        await ctx["s3_client"].close()
        print("Worker shutting down, cleaned up resources.")
