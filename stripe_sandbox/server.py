"""Serving a sandbox over a socket, in the running event loop or as a program."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from stripe_sandbox.app import SandboxApp, create_app
from stripe_sandbox.core.config import DEFAULT_HOST
from stripe_sandbox.sandbox import Sandbox

_STOP_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections: closing first would race with their next POST."""


class ProgramServer(uvicorn.Server):
    """A uvicorn server that does not wait for a dashboard that somebody has left open."""

    def __init__(self, config: uvicorn.Config, app: SandboxApp) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop_streams()
        await super().shutdown(sockets)


class _EmbeddedServer(uvicorn.Server):
    """A uvicorn server inside somebody's event loop: no signal handlers, no waiting about."""

    def __init__(self, config: uvicorn.Config, app: SandboxApp) -> None:
        super().__init__(config)
        self._app = app
        self.running = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.running.set()
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop_streams()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            _, late = await asyncio.wait(self.server_state.tasks, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()
        # Idle connections were told to close; one turn of the loop lets them.
        await asyncio.sleep(0)
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def serve(sandbox: Sandbox, *, host: str = DEFAULT_HOST, port: int = 0) -> AsyncIterator[str]:
    """Serve in the running loop, on a free port unless one is named, and yield the base URL."""
    with socket.create_server((host, port)) as listener:
        # asyncio leaves this out for sockets of unnamed protocol, and answers would wait 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        base_url = f"http://{host}:{listener.getsockname()[1]}"
        if sandbox.config.public_url is None:
            sandbox.public_url = base_url
        app = create_app(sandbox)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        server = _EmbeddedServer(config, app)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="sandbox-server")
        ready = asyncio.create_task(server.running.wait())
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await task
        try:
            yield base_url
        finally:
            server.stopping.set()
            await task
