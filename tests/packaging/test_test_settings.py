"""The test run's own fences: no network but this machine's, no warning unread."""

import asyncio
import socket
import warnings

import pytest
from pytest_socket import SocketConnectBlockedError

# Of a block that is reserved for documentation; nothing is sent, the connection is refused here.
ELSEWHERE = ("192.0.2.1", 443)


def test_a_test_cannot_connect_to_another_machine() -> None:
    with pytest.raises(SocketConnectBlockedError), pytest.warns(UserWarning, match="A test tried"):
        socket.create_connection(ELSEWHERE, timeout=1)


async def test_nor_can_a_coroutine() -> None:
    with pytest.raises(SocketConnectBlockedError), pytest.warns(UserWarning, match="A test tried"):
        await asyncio.open_connection(*ELSEWHERE)


async def test_this_machine_can_be_reached() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        for host in ("127.0.0.1", "localhost"):
            reader, writer = await asyncio.open_connection(host, server.sockets[0].getsockname()[1])
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()


def test_a_warning_is_an_error() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
