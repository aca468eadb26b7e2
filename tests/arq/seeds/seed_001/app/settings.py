"""Filled in: the application's settings."""

database_url = "postgresql://localhost/app"
redis_host = "localhost"
