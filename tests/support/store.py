"""Where a test keeps its data: the embedded store, or the server that TEST_MONGODB_URL names, there
in databases of the test's own.
"""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

if TYPE_CHECKING:
    from app.repositories.database import Client

SERVER_URL: Final = os.environ.get("TEST_MONGODB_URL") or None


def not_on(server: str, reason: str) -> pytest.MarkDecorator:
    """For the few tests of what a stand-in for MongoDB cannot do (scripts/test_mongodb.py)."""
    here = os.environ.get("TEST_MONGODB_SERVER") == server
    return pytest.mark.skipif(here, reason=f"{server} {reason}")


def own_store() -> dict[str, str]:
    """Settings' fields of a store that nobody else uses."""
    if SERVER_URL is None:
        return {"mongodb_url": "mongomock://", "auth_mongodb_url": "mongomock://"}
    name = f"test_{uuid.uuid4().hex[:12]}"
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
        client: Client = AsyncIOMotorClient(url, serverSelectionTimeoutMS=5000)
        try:
            await client.drop_database(name)
        finally:
            client.close()
