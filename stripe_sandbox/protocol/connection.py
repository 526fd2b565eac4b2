"""Bare ASGI: reading a body, answering, and hanging up without an answer."""

from collections.abc import Mapping

from starlette.types import Receive, Send

from stripe_sandbox.protocol.errors import ApiError

_MAX_BODY = 1 << 20


class ClientLeft(Exception):
    """The client hung up before its request was whole: nobody waits for an answer."""


class ConnectionDropped(ConnectionResetError):
    """Raised instead of hanging up where there is no connection, as under httpx.ASGITransport."""


async def read_body(receive: Receive) -> bytes:
    parts = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > _MAX_BODY:
            raise ApiError(413, "The request body is too large.", executed=False)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


async def send_response(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def hang_up(receive: Receive, send: Send) -> None:
    """Close the socket with not a byte sent.

    ASGI has no message for this. Under uvicorn ``send`` belongs to the object that holds the
    transport; aborting that and waiting for the disconnect makes uvicorn send nothing, where an
    exception would make it send a 500.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionDropped("the sandbox was told to drop this connection")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        continue
