"""Filled in: what the document calls but does not define."""


class Resource:
    """A database pool, or an S3 client: can be closed, and says so."""

    def __init__(self, name):
        self.name = name

    async def close(self):
        print(f"{self.name} closed")


async def get_database_connection_pool():
    return Resource("db_pool")


def get_aws_client():
    return Resource("s3_client")
