"""Where a test keeps its data: the embedded store, or the server that TEST_MONGODB_URL names, there
in databases of the test's own.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient

from app.repositories.database import Client, Databases
from app.repositories.embedded import EmbeddedClient

SERVER_URL: Final = os.environ.get("TEST_MONGODB_URL") or None


def not_on(server: str, reason: str) -> pytest.MarkDecorator:
    """For the few tests of what a stand-in for MongoDB cannot do (scripts/test_mongodb.py)."""
    here = os.environ.get("TEST_MONGODB_SERVER") == server
    return pytest.mark.skipif(here, reason=f"{server} {reason}")


def only_embedded(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(SERVER_URL is not None, reason=f"embedded store only: {reason}")


def as_many(embedded: int, *, on_a_server: int) -> int:
    """Cases of one kind. A server differs from the embedded store in what its commands do, not in
    where the service can be cut short: that takes fewer cases, and each costs several times more.
    """
    return embedded if SERVER_URL is None else on_a_server


def own_store() -> dict[str, str]:
    """Settings' fields of a store that nobody else uses."""
    if SERVER_URL is None:
        return {"mongodb_url": "mongomock://", "auth_mongodb_url": "mongomock://"}
    name = os.environ.get("TEST_MONGODB_PREFIX", "test_") + uuid.uuid4().hex[:12]
    return {
        "mongodb_url": SERVER_URL,
        "mongodb_db_name": f"{name}_payment",
        "auth_mongodb_url": SERVER_URL,
        "auth_mongodb_db_name": f"{name}_auth",
    }


@contextlib.asynccontextmanager
async def removed_afterwards(store: Mapping[str, str]) -> AsyncIterator[None]:
    """Nothing of ``store`` stays on the server."""
    try:
        yield
    finally:
        if SERVER_URL is not None:
            await drop_databases(store)


async def drop_databases(store: Mapping[str, str]) -> None:
    for url, name in (
        (store["mongodb_url"], store["mongodb_db_name"]),
        (store["auth_mongodb_url"], store["auth_mongodb_db_name"]),
    ):
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            url, serverSelectionTimeoutMS=5000
        )
        try:
            await client.drop_database(name)
        finally:
            await client.close()


class OwnStores:
    """Databases without an application to open them, as many as a test wants."""

    def __init__(self) -> None:
        # A client belongs to one event loop.
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}
        self._names: list[str] = []

    def open(self) -> Databases:
        options: CodecOptions[Any] = CodecOptions(tz_aware=True)
        if SERVER_URL is None:
            client: Client = EmbeddedClient()
            return Databases(
                payments=client.get_database("payments", codec_options=options),
                auth=client.get_database("auth", codec_options=options),
            )
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = Client(SERVER_URL)
        client = self._clients[loop]
        store = own_store()
        names = [store["mongodb_db_name"], store["auth_mongodb_db_name"]]
        self._names += names
        payments, auth = (client.get_database(name, codec_options=options) for name in names)
        return Databases(payments=payments, auth=auth)

    def remove(self) -> None:
        """What was opened since the last time, with its clients."""
        clients = list(self._clients.values())
        for name in self._names:
            clients[0].delegate.drop_database(name)
        for client in clients:
            client.close()
        self._clients = {}
        self._names = []


OWN_STORES: Final = OwnStores()
