"""Connections, time-outs, and what a driver's error means to us."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

# Motor runs every command in one pool of threads and reads its size when it is imported. By default
# it is five for each processor: on a small machine five commands to a database that does not answer
# stop all others.
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")

from bson.codec_options import CodecOptions
from motor.frameworks.asyncio import max_workers
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import ReadPreference
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from app.errors import DatabaseUnavailable, StartupError
from app.settings import EMBEDDED_DATABASE_SCHEME, Settings

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Collection = AsyncIOMotorCollection[Document]
Database = AsyncIOMotorDatabase[Document]

PAYMENTS_DATABASE: Final = "payments"
AUTH_DATABASE: Final = "auth"

COMMANDS_AT_ONCE: Final = {
    PAYMENTS_DATABASE: max(1, max_workers * 3 // 4 - 2),
    AUTH_DATABASE: max(1, max_workers // 4),
}
"""Both databases share the driver's threads, and neither may take the other's by not answering. Two
are left for the probes (``ping``).
"""

_FAILOVER_CODES: Final = frozenset(
    {6, 7, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
)
"""Server errors that pass: unreachable hosts, a primary that steps down, a write conflict.

https://github.com/mongodb/specifications/blob/master/source/retryable-writes/retryable-writes.md
"""


@dataclass(frozen=True, slots=True)
class Databases:
    """``payments`` is ours; ``auth`` is the auth service's, of which we change only credits."""

    payments: Database
    auth: Database


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Databases]:
    """Opens both databases. Nothing is sent yet: ``ping`` tells whether anyone answers."""
    clients: list[Client] = []
    try:
        payments = _client(settings.mongodb_url.get_secret_value(), "MONGODB_URL", settings)
        clients.append(payments)
        auth = _client(settings.auth_mongodb_url.get_secret_value(), "AUTH_MONGODB_URL", settings)
        clients.append(auth)
        yield Databases(
            payments=_database(payments, settings.mongodb_db_name),
            auth=_database(auth, settings.auth_mongodb_db_name),
        )
    finally:
        for client in clients:
            client.close()


async def ping(database: Database, name: str) -> None:
    """Raises DatabaseUnavailable when the server does not answer in time, or not to us."""
    try:
        with DatabaseErrors(name):
            await database.command("ping")
    except OperationFailure as error:
        # A ping does nothing that could fail but to sign in.
        raise DatabaseUnavailable(
            f"The {name} database does not let this service in.", retry_after=5, database=name
        ) from error


async def require_answer(database: Database, name: str, *, setting: str, address: str) -> None:
    """Raises StartupError; ``address`` is the URL without what is secret in it."""
    try:
        await ping(database, name)
    except DatabaseUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, OperationFailure) and not _passes(cause):
            raise StartupError(
                f"the MongoDB at {address} does not let this service in; look at the user and the "
                f"password in {setting}"
            ) from None
        raise StartupError(
            f"no MongoDB answers at {address} ({setting}); start one, or run "
            "`python main.py --sandbox` (or `make run`), which needs none"
        ) from None


class DatabaseErrors:
    """Turns the driver's "cannot reach it" errors into DatabaseUnavailable; others rise as they
    are.

    An operation that failed so may have taken effect: every write in this package is safe to
    repeat.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, PyMongoError) and _passes(error):
            raise unavailable(self._name) from error


class Commands:
    """Goes around each command to one database, whichever repository sends it: so many run at once,
    the others wait for their turn, and DatabaseErrors apply. Not to be nested: whoever holds a turn
    must not wait for another.
    """

    __slots__ = ("_errors", "_name", "_slots", "_timeout_seconds")

    def __init__(self, name: str, *, timeout_seconds: float = 5.0) -> None:
        """``timeout_seconds``: how long a command may wait for those before it."""
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(COMMANDS_AT_ONCE[name])
        self._errors = DatabaseErrors(name)

    async def __aenter__(self) -> None:
        """Raises DatabaseUnavailable when its turn does not come in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise unavailable(self._name) from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slots.release()
        self._errors.__exit__(kind, error, trace)


def unavailable(name: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The {name} database did not answer; please try again.", retry_after=5, database=name
    )


def _passes(error: PyMongoError) -> bool:
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError):
        return True
    if error.has_error_label("RetryableWriteError"):
        return True
    return isinstance(error, OperationFailure) and error.code in _FAILOVER_CODES


def _client(url: str, setting: str, settings: Settings) -> Client:
    if url.startswith(EMBEDDED_DATABASE_SCHEME):
        # Imported here because the production image does not ship the embedded store.
        try:
            from app.repositories.embedded import EmbeddedClient
        except ModuleNotFoundError as error:
            raise StartupError(
                f"{setting} asks for the embedded store, which needs the package {error.name}: "
                "install requirements-dev.lock"
            ) from error
        client: Client = EmbeddedClient()
        return client
    milliseconds = int(settings.database_timeout_seconds * 1000)
    try:
        return AsyncIOMotorClient(
            url,
            appname="audiobooker-payment",
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
            waitQueueTimeoutMS=milliseconds,
            **_majority(url),
        )
    except (InvalidURI, DriverConfigurationError, ValueError) as error:
        raise StartupError(
            f"{setting} is not a readable MongoDB URL ({type(error).__name__})"
        ) from None


def _majority(url: str) -> Document:
    """A payment that was written must survive a fail-over; a URL that says otherwise is obeyed."""
    return {} if "w=" in url.partition("?")[2] else {"w": "majority"}


def _database(client: Client, name: str) -> Database:
    options: CodecOptions[Document] = CodecOptions(tz_aware=True)
    # From the primary, whatever the URL says: a decision made on a stale read could lose money.
    return client.get_database(name, codec_options=options, read_preference=ReadPreference.PRIMARY)
