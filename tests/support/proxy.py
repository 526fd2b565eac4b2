"""A wire on loopback that can be cut; it stands between the driver and its server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import pytest

Mode = Literal["open", "cut", "silent"]


class Proxy:
    """``open`` passes everything on; ``cut`` closes whatever comes, as a dead server's machine
    does; ``silent`` takes it and answers nothing, as a machine behind a dead switch does.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server_address = (host, port)
        self._wires: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.mode: Mode = "open"
        self.delay = 0.0
        self.slow: dict[bytes, float] = {}
        """Commands by name, and for how many seconds each is held before the server gets it."""
        self.lose_answer = 0
        """The answer of this number, from now, is lost and its connection with it; 0: none."""
        self.connections = 0
        self.held = 0
        """What came since it fell silent and was not passed on."""

    def cut(self) -> None:
        """Every connection breaks, and none is made until ``repair``."""
        self.mode = "cut"
        self.hang_up()

    def fall_silent(self) -> None:
        self.mode = "silent"
        self.held = 0
        self._passes.clear()

    def repair(self) -> None:
        """What was held back while it was silent is lost, as its senders gave up long ago."""
        if self.mode == "silent":
            self.hang_up()
        self.mode = "open"
        self._passes.set()

    def hang_up(self) -> None:
        """The connections of now break; new ones are as the mode says."""
        for wire in self._wires:
            wire.close()

    async def serve(self, driver: asyncio.StreamReader, to_driver: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(to_driver.close)
                if self.mode == "cut":
                    return
                server, to_server = await asyncio.open_connection(*self._server_address)
                stack.callback(to_server.close)
                self.connections += 1
                self._wires |= {to_driver, to_server}
                stack.callback(self._wires.difference_update, {to_driver, to_server})
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(driver, to_server, answers=False))
                    both.create_task(self._pass(server, to_driver, answers=True))

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                self.held += not self._passes.is_set()
                await self._passes.wait()
                if answers and self.delay:
                    await asyncio.sleep(self.delay)
                if not answers and self.slow:
                    await asyncio.sleep(sum(self.slow[name] for name in self.slow if name in chunk))
                if answers and self.lose_answer:
                    self.lose_answer -= 1
                    if not self.lose_answer:
                        break
                target.write(chunk)
                await target.drain()
        target.close()


@contextlib.asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The same server by way of a proxy: its URL, and the proxy. Closed at the end."""
    parts = urlsplit(url)
    options = parts.query.lower()
    if parts.scheme != "mongodb" or "," in parts.netloc or "tls=" in options or "ssl=" in options:
        pytest.skip("the proxy stands before one server, named by mongodb:// and without TLS")
    assert parts.hostname is not None
    proxy = Proxy(parts.hostname, parts.port or 27017)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials, at, _ = parts.netloc.rpartition("@")
    # Directly: a replica set would tell the driver its own addresses, past the proxy.
    query = (
        parts.query
        if "directConnection" in parts.query
        else (f"{parts.query}&directConnection=true".lstrip("&"))
    )
    by_proxy = parts._replace(
        netloc=f"{credentials}{at}127.0.0.1:{port}", path=parts.path or "/", query=query
    )
    try:
        yield urlunsplit(by_proxy), proxy
    finally:
        server.close()
        proxy.repair()
        proxy.hang_up()
        await asyncio.sleep(0)
