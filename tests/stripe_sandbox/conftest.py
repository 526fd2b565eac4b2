"""The sandbox on a real socket, asked by the real Stripe SDK."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import stripe

from stripe_sandbox import Sandbox, SandboxConfig, WebhookEndpointConfig, serve

SECRET = "whsec_test_of_the_sandbox"
API_KEY = "sk_test_of_the_sandbox"
TLS = ssl.create_default_context()
"""Made once: reading the certificates anew for each test would take most of its time."""

stripe.enable_telemetry = False


@dataclass
class Receiver(httpx.AsyncBaseTransport):
    """A webhook endpoint that answers from ``statuses`` and then 200, and keeps what it got."""

    statuses: list[int | Exception] = field(default_factory=list)
    received: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.received.append(request)
        answer = self.statuses.pop(0) if self.statuses else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.received]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@dataclass
class Rig:
    """A served sandbox and the clients that talk to it."""

    sandbox: Sandbox
    url: str
    client: Any
    http: httpx.AsyncClient
    receiver: Receiver

    async def intent(self, payment_method: str = "pm_card_visa", **params: Any) -> Any:
        """A PaymentIntent created and confirmed in one call."""
        return await self.client.v1.payment_intents.create_async(
            {
                "amount": 1000,
                "currency": "usd",
                "payment_method": payment_method,
                "confirm": True,
                "return_url": "https://shop.example/return",
                **params,
            }
        )

    async def session(self, **params: Any) -> Any:
        return await self.client.v1.checkout.sessions.create_async(
            {
                "mode": "payment",
                "success_url": "https://shop.example/ok?session_id={CHECKOUT_SESSION_ID}",
                "cancel_url": "https://shop.example/cart",
                "line_items": [line_item()],
                **params,
            }
        )

    async def eventually(self, condition: Callable[[], object]) -> None:
        """Wait until something in the background has happened."""
        for _ in range(1_000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it never happened")

    def data(self, id: str) -> dict[str, Any]:
        """An object as the sandbox holds it now."""
        collections: dict[str, Any] = {
            "pi": self.sandbox.payment_intents,
            "ch": self.sandbox.charges,
            "py": self.sandbox.charges,
            "re": self.sandbox.refunds,
            "cs": self.sandbox.checkout_sessions,
            "pm": self.sandbox.payment_methods,
            "du": self.sandbox.disputes,
        }
        record = collections[id[:2]].find(id)
        assert record is not None
        data: dict[str, Any] = record.data
        return data


def line_item(amount: int = 1500, quantity: int = 2, currency: str = "usd") -> dict[str, Any]:
    return {
        "price_data": {
            "currency": currency,
            "unit_amount": amount,
            "product_data": {"name": "A tale of two cities", "description": "Unabridged"},
        },
        "quantity": quantity,
    }


@asynccontextmanager
async def running(config: SandboxConfig) -> AsyncIterator[Rig]:
    receiver = Receiver()
    sandbox = Sandbox(config, webhook_transport=receiver)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(sandbox))
        sdk_http = stripe.AIOHTTPClient()
        stack.push_async_callback(sdk_http.close_async)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {API_KEY}"}, verify=TLS
            )
        )
        client = stripe.StripeClient(
            API_KEY, base_addresses={"api": url}, http_client=sdk_http, max_network_retries=0
        )
        yield Rig(sandbox, url, client, http, receiver)


def configured(**changes: Any) -> SandboxConfig:
    settings: dict[str, Any] = {
        "webhook_endpoints": [WebhookEndpointConfig(url="http://app.test/hook", secret=SECRET)],
        "retry_schedule": (0.01, 0.01),
        "delayed_payment_seconds": None,
        "refund_settle_seconds": None,
        "dispute_settle_seconds": 5,
        "balance_transaction_seconds": 600,
        **changes,
    }
    return SandboxConfig(**settings)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(configured()) as started:
        yield started


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """For tests that choose a setting of their own."""
    async with AsyncExitStack() as stack:

        async def enter(**changes: Any) -> Rig:
            return await stack.enter_async_context(running(configured(**changes)))

        yield enter


class Ask:
    """One SDK call by name, ``ask("payment_intents.create", {...})``, by either kind of client."""

    def __init__(self, rig: Rig, sync: stripe.StripeClient | None, thread: Executor) -> None:
        self._rig = rig
        self._sync = sync
        self._thread = thread

    async def __call__(self, name: str, *arguments: Any) -> Any:
        client = self._rig.client if self._sync is None else self._sync
        *services, method = name.split(".")
        service = client.v1
        for part in services:
            service = getattr(service, part)
        if self._sync is None:
            return await getattr(service, f"{method}_async")(*arguments)
        call = partial(getattr(service, method), *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def refused(self, name: str, *arguments: Any) -> Any:
        """The exception that the SDK raises."""
        with pytest.raises(stripe.StripeError) as refusal:
            await self(name, *arguments)
        return refusal.value


@pytest.fixture(params=["async", "sync"])
async def ask(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[Ask]:
    """The SDK's asynchronous client over aiohttp, and its plain one over requests."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        if request.param == "async":
            yield Ask(rig, None, thread)
            return
        http = stripe.RequestsClient()
        client = stripe.StripeClient(
            API_KEY, base_addresses={"api": rig.url}, http_client=http, max_network_retries=0
        )
        yield Ask(rig, client, thread)
        # Its session belongs to the thread that made the calls.
        await asyncio.get_running_loop().run_in_executor(thread, http.close)


@pytest.fixture(name="line_item")
def line_item_fixture() -> Callable[..., dict[str, Any]]:
    return line_item


@pytest.fixture
def webhook_secret() -> str:
    return SECRET
