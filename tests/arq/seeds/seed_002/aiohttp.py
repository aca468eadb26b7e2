"""Filled in: a stand-in for aiohttp's client: real HTTP, to the server that TEST_HTTP names, whatever host is asked for."""

import os
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx


class ClientTimeout:
    def __init__(self, total):
        self.total = total


class ClientResponseError(Exception):
    pass


class Response:
    def __init__(self, response):
        self._response = response
        self.status, self.headers = response.status_code, response.headers

    def raise_for_status(self):
        if self.status >= 400:
            raise ClientResponseError(f"{self.status} {self._response.url}")

    async def json(self):
        return self._response.json()


class ClientSession:
    def __init__(self):
        self._client = httpx.AsyncClient(trust_env=False)

    async def close(self):
        await self._client.aclose()

    def post(self, url, *, json, headers, timeout):
        return self._ask("POST", url, json=json, headers=headers, timeout=timeout.total)

    def get(self, url):
        return self._ask("GET", url)

    @asynccontextmanager
    async def _ask(self, method, url, **options):
        yield Response(await self._client.request(method, os.environ["TEST_HTTP"] + urlsplit(url).path, **options))
