"""The two wires out of the application: to the databases and to Stripe. Whatever goes over them is
a step of the process that sends it.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import stripe

from app.repositories.database import Databases
from stripe_sandbox import Sandbox, SandboxApp
from tests.faults.steps import Effect, Step

PAGE: Final = 3
"""No page of Stripe's has more, so that what is listed never fits on one."""

READS: Final = frozenset({"find_one", "find", "count_documents", "distinct", "aggregate"})
_COMMANDS: Final = READS | frozenset(
    """
    bulk_write create_index create_indexes delete_many delete_one drop find_one_and_delete
    find_one_and_replace find_one_and_update insert_many insert_one replace_one update_many
    update_one
    """.split()
)


class Wire(Protocol):
    """Where a step leaves the process."""

    async def perform(self, step: Step, effect: Effect) -> Any: ...


class WiredDatabase:
    """A database whose every command is a step."""

    def __init__(self, real: Any, name: str, wire: Wire) -> None:
        self._real = real
        self._name = name
        self._wire = wire

    def __getitem__(self, collection: str) -> "WiredCollection":
        return WiredCollection(self._real[collection], f"{self._name}.{collection}", self._wire)

    async def command(self, *args: Any, **kwargs: Any) -> Any:
        step = Step("db", "command", self._name, writes=False)
        return await self._wire.perform(step, lambda: self._real.command(*args, **kwargs))


class WiredCollection:
    def __init__(self, real: Any, target: str, wire: Wire) -> None:
        self._real = real
        self._target = target
        self._wire = wire

    def find(self, *args: Any, **kwargs: Any) -> "WiredCursor":
        return WiredCursor(self._real.find(*args, **kwargs), self._target, self._wire)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in _COMMANDS:
            raise AttributeError(f"the laboratory does not know the command {name}: add it")
        command = getattr(self._real, name)

        async def run(*args: Any, **kwargs: Any) -> Any:
            step = Step("db", name, self._target, _key(args), writes=name not in READS)
            return await self._wire.perform(step, lambda: command(*args, **kwargs))

        return run


class WiredCursor:
    """Nothing is sent before the cursor is read."""

    def __init__(self, real: Any, target: str, wire: Wire) -> None:
        self._real = real
        self._target = target
        self._wire = wire

    def sort(self, *args: Any, **kwargs: Any) -> "WiredCursor":
        return WiredCursor(self._real.sort(*args, **kwargs), self._target, self._wire)

    def limit(self, *args: Any, **kwargs: Any) -> "WiredCursor":
        return WiredCursor(self._real.limit(*args, **kwargs), self._target, self._wire)

    async def to_list(self, *args: Any, **kwargs: Any) -> Any:
        step = Step("db", "find", self._target, writes=False)
        return await self._wire.perform(step, lambda: self._real.to_list(*args, **kwargs))


def wired(databases: Databases, wire: Wire) -> Databases:
    payments: Any = WiredDatabase(databases.payments, "payments", wire)
    auth: Any = WiredDatabase(databases.auth, "auth", wire)
    return Databases(payments=payments, auth=auth)


def _key(args: tuple[Any, ...]) -> str | None:
    """The id of the one document that the command can touch."""
    first = args[0] if args else None
    key = first.get("_id") if isinstance(first, Mapping) else None
    return None if key is None or isinstance(key, Mapping) else str(key)


class InProcessClient(stripe.HTTPClient):
    """The SDK's way to a sandbox in this process: no socket, and waiting takes no time."""

    name = "laboratory"

    def __init__(
        self, sandbox: Sandbox, app: SandboxApp, wire: Wire, wait: Callable[[float], None]
    ) -> None:
        super().__init__()
        self._sandbox = sandbox
        self._app = app
        self._wire = wire
        self._wait = wait

    async def sleep_async(self, secs: float) -> None:
        self._wait(secs)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        parts, body = urlsplit(url), _encoded(post_data)
        step = Step("stripe", method.upper(), parts.path, writes=method.upper() != "GET")
        answer: tuple[bytes, int, Mapping[str, str]] = await self._wire.perform(
            step,
            lambda: call_asgi(
                self._app, method, parts.path, _of_short_pages(parts.query), headers, body
            ),
        )
        return answer

    async def close_async(self) -> None:
        """Nothing is open."""


def _of_short_pages(query: str) -> str:
    return urlencode([(k, str(PAGE) if k == "limit" else v) for k, v in parse_qsl(query)])


def _encoded(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else (data or b"")


async def call_asgi(
    app: Any,
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[bytes, int, dict[str, str]]:
    """One request to an ASGI application: (body, status, headers in lower case)."""
    sent = False
    status = 0
    answered: dict[str, str] = {}
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update((k.decode().lower(), v.decode()) for k, v in message["headers"])
        else:
            parts.append(message.get("body", b""))

    raw = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [*raw, (b"content-length", b"%d" % len(body))],
        "client": ("127.0.0.1", 50_000),
        "server": ("shop.test", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return b"".join(parts), status, answered


@contextlib.asynccontextmanager
async def given(value: Any) -> AsyncIterator[Any]:
    """A context that only hands over what is there."""
    yield value
