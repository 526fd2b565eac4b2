"""Serves the application with uvicorn, in this process."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.application import create_app
from app.dependencies import DatabaseConnector
from app.errors import DatabaseUnavailable, StartupError
from app.observability import configure_logging
from app.repositories.database import PAYMENTS_DATABASE, require_answer
from app.repositories.database import connect as connect_databases
from app.repositories.indexes import PAYMENTS, create_indexes
from app.settings import Environment, Settings


def serve(
    settings: Settings,
    *,
    connect: DatabaseConnector = connect_databases,
    extend: Callable[[FastAPI], None] | None = None,
    on_started: Callable[[], None] | None = None,
) -> int:
    """Runs until SIGTERM or SIGINT: stops accepting, finishes what is in flight, closes the pools.

    ``extend`` may add to the application before it is served; ``on_started`` is called once
    requests are answered. Returns the exit code; raises StartupError.
    """
    application = application_of(settings, connect=connect)
    if extend is not None:
        extend(application)
    server = _Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            # RequestContextMiddleware writes the access log, configure_logging does the rest.
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
            # The client's address is only logged; the proxy in front is on another address.
            proxy_headers=False,
        ),
        on_started,
    )
    with _bound(settings.host, settings.port) as sockets:
        asyncio.run(_prepare_database(settings, connect))
        with _stopping_is_no_failure():
            server.run(sockets=list(sockets))
    return 0 if server.started else 1


def application_of(
    settings: Settings, *, connect: DatabaseConnector = connect_databases
) -> FastAPI:
    """The application with its logs set up, for a server that is started from outside."""
    configure_logging(settings.log_level, json=settings.environment is not Environment.DEVELOPMENT)
    return create_app(settings, connect=connect)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, *args: object, **kwargs: object) -> None:
        await super().startup(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they come
        if self.started and self._on_started is not None:
            self._on_started()


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Bound and not yet listening, so that no caller waits for a service that may not start.

    Raises StartupError, where uvicorn would start everything first and then log an errno.
    """
    with contextlib.ExitStack() as stack:
        sockets = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                each = stack.enter_context(socket.socket(family, kind, protocol))
                if os.name == "posix":
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                each.bind(address)
                sockets.append(each)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {host} port {port} ({error.strerror}); set PORT to a free port"
            ) from None
        yield sockets


@contextlib.contextmanager
def _stopping_is_no_failure() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more at the end, which by default would kill
    the process: before our caller has cleaned up, and with an exit code of failure.
    """

    def ignore(_signal: int, _frame: FrameType | None) -> None:
        return None

    previous = {each: signal.signal(each, ignore) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


async def _prepare_database(settings: Settings, connect: DatabaseConnector) -> None:
    """Raises StartupError with the line that helps, not a trace from inside the lifespan, which
    finds the indexes made.
    """
    async with connect(settings) as databases:
        await require_answer(
            databases.payments[PAYMENTS],
            PAYMENTS_DATABASE,
            setting="MONGODB_URL",
            address=without_credentials(settings.mongodb_url.get_secret_value()),
        )
        try:
            await create_indexes(databases.payments)
        except DatabaseUnavailable as error:
            raise StartupError(
                "the payments database fell silent while indexes were made"
            ) from error


def without_credentials(url: str) -> str:
    """For messages: a database URL holds a password, and its query may hold more."""
    scheme, _, rest = url.partition("://")
    # After the last @, because an unescaped password may hold any of / ? #.
    return f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"
