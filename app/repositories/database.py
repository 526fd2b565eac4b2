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
from dns.exception import DNSException
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
are left for the probes.
"""

_PASSING_CODES: Final = frozenset(
    {
        6, 7, 89, 133, 9001,  # hosts that cannot be reached, no primary among them
        91, 189, 10107, 11600, 11601, 11602, 13435, 13436,  # a primary that steps or shuts down
        43, 112, 134, 217, 225, 262, 365,  # conflicts, overload, what was lost in a fail-over
    }
)  # fmt: skip
"""Server errors that pass.

https://github.com/mongodb/specifications/blob/master/source/retryable-writes/retryable-writes.md
https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
"""

_PASSING_LABELS: Final = ("RetryableWriteError", "SystemOverloadedError")

_SHUT_OUT_CODES: Final = frozenset({13, 18})
"""Unauthorized and AuthenticationFailed."""


@dataclass(frozen=True, slots=True)
class Databases:
    """``payments`` is ours; ``auth`` is the auth service's, of which we change only credits."""

    payments: Database
    auth: Database


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Databases]:
    """Opens both databases. Nothing is sent yet: ``probe`` tells whether anyone answers."""
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


async def probe(collection: Collection, name: str) -> None:
    """Raises DatabaseUnavailable when the server does not answer in time, or not to us.

    A read of what is served, for MongoDB answers a ping to everybody, also without a password or a
    right to anything.
    """
    with DatabaseErrors(name):
        await collection.find_one({"_id": "probe"}, projection={"_id": 1})


async def require_answer(collection: Collection, name: str, *, setting: str, address: str) -> None:
    """Raises StartupError; ``address`` is the URL without what is secret in it."""
    try:
        await probe(collection, name)
    except DatabaseUnavailable as error:
        if shuts_us_out(error.__cause__):
            raise StartupError(
                f"the MongoDB at {address} does not let this service in; look at the user and the "
                f"password in {setting}"
            ) from None
        raise StartupError(
            f"no MongoDB answers at {address} ({setting}); start one, or run "
            "`python main.py --sandbox` (or `make run`), which needs none"
        ) from None


class DatabaseErrors:
    """Turns the driver's "cannot reach it" and "not let in" errors into DatabaseUnavailable; others
    rise as they are.

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
        if shuts_us_out(error):
            raise DatabaseUnavailable(
                f"The {self._name} database does not let this service in.",
                retry_after=5,
                database=self._name,
            ) from error
        if isinstance(error, PyMongoError) and passes(error):
            raise unavailable(self._name) from error


class Commands:
    """Goes around each command to one database, whichever repository sends it: so many run at once,
    the others wait for their turn, and DatabaseErrors apply. Not to be nested: a command that holds
    a turn must not wait for another.
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


def shuts_us_out(error: BaseException | None) -> bool:
    """A user, a password or a right is wrong: it passes when a person mends it, and until then
    nothing is done.
    """
    return isinstance(error, OperationFailure) and error.code in _SHUT_OUT_CODES


def passes(error: PyMongoError) -> bool:
    """The command may be tried again: a host, a primary or a name server is away."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError):
        return True
    if any(error.has_error_label(label) for label in _PASSING_LABELS):
        return True
    if isinstance(error, DriverConfigurationError):
        # The names behind a mongodb+srv:// URL are asked for at the first command.
        return isinstance(error.__cause__, DNSException)
    return isinstance(error, OperationFailure) and error.code in _PASSING_CODES


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
