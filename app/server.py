"""Serves the application with uvicorn, in this process."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import uvicorn

from app.application import create_app
from app.dependencies import DatabaseConnector
from app.errors import DatabaseUnavailable, StartupError
from app.observability import configure_logging
from app.repositories.database import PAYMENTS_DATABASE, ping
from app.repositories.database import connect as connect_databases
from app.settings import Environment, Settings


def serve(
    settings: Settings,
    *,
    connect: DatabaseConnector = connect_databases,
    on_started: Callable[[], None] | None = None,
) -> int:
    """Runs until SIGTERM or SIGINT: stops accepting, finishes what is in flight, closes the pools.

    ``on_started`` is called once requests are answered. Returns the exit code; raises StartupError.
    """
    configure_logging(settings.log_level, json=settings.environment is not Environment.DEVELOPMENT)
    application = create_app(settings, connect=connect)
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
    asyncio.run(_require_database(settings, connect))
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, *args: object, **kwargs: object) -> None:
        await super().startup(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they come
        if self.started and self._on_started is not None:
            self._on_started()


async def _require_database(settings: Settings, connect: DatabaseConnector) -> None:
    """Raises StartupError with the line that helps, not a trace from inside the lifespan."""
    async with connect(settings) as databases:
        try:
            await ping(databases.payments, PAYMENTS_DATABASE)
        except DatabaseUnavailable:
            url = without_credentials(settings.mongodb_url.get_secret_value())
            raise StartupError(
                f"no MongoDB answers at {url} (MONGODB_URL); start one, or run "
                "`python main.py --sandbox` (or `make run`), which needs none"
            ) from None


def without_credentials(url: str) -> str:
    """For messages: a database URL holds a password, and its query may hold more."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
