"""The whole thing in one process, with real parts: the application over ASGI (its lifespan run), the
embedded store, and the Stripe sandbox on a real socket, to which the real Stripe SDK talks HTTP.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import stripe
from fastapi import FastAPI

from app.application import create_app
from app.dependencies import DatabaseConnector, Services
from app.repositories.database import Databases, Document, connect
from app.routers import BASE_PATH
from app.settings import Settings
from stripe_sandbox import Sandbox, SandboxConfig, WebhookEndpointConfig, serve

WEBHOOK_SECRET = "whsec_test_secret_of_the_suite"
WEBHOOK_URL = f"http://shop.test{BASE_PATH}/webhook/stripe"


@dataclass
class ShiftableClock:
    """The service's clock: real time, moved ahead by the test."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        now = datetime.now(UTC) + self.ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def advance(self, **duration: float) -> None:
        """``advance(minutes=2)``: the names are timedelta's."""
        self.ahead += timedelta(**duration)


@dataclass
class Shop:
    """What a test has in its hands."""

    app: FastAPI
    client: httpx.AsyncClient
    stripe: Sandbox
    databases: Databases
    settings: Settings
    clock: ShiftableClock

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    # Asking the API

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """``path`` is below the base path: ``/payment/{id}``."""
        return await self.client.get(BASE_PATH + path, **kwargs)

    async def post(
        self, path: str, body: Mapping[str, Any], *, key: str | None = None, **kwargs: Any
    ) -> httpx.Response:
        headers = dict(kwargs.pop("headers", {}))
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.post(BASE_PATH + path, json=body, headers=headers, **kwargs)

    async def create_intent(self, *, user_id: str = "user_123", amount: int = 999) -> Document:
        """A payment waiting for its card; the reply of create-payment-intent."""
        return ok(await self.post("/create-payment-intent", {"user_id": user_id, "amount": amount}))

    async def pay_by_card(
        self,
        *,
        user_id: str = "user_123",
        amount: int = 999,
        payment_method: str = "pm_card_visa",
    ) -> Document:
        """A paid card payment, its webhooks delivered; the payment as the API shows it."""
        created = await self.create_intent(user_id=user_id, amount=amount)
        ok(
            await self.post(
                "/confirm-payment",
                {
                    "payment_intent_id": created["payment_intent_id"],
                    "payment_method_id": payment_method,
                },
            )
        )
        await self.stripe.webhooks.drain()
        return await self.payment(created["payment_id"])

    async def pay_with_credits(self, *, user_id: str = "user_123", credits: int = 1) -> Document:
        """A paid credits payment as the API shows it."""
        items = [{"book_id": "dune", "price_cents": 1299, "credits": credits}]
        reply = ok(await self.post("/pay-with-credits", {"user_id": user_id, "items": items}))
        return await self.payment(reply["payment_id"])

    async def create_session(self, **fields: Any) -> Document:
        """An open Checkout Session; the reply of create-checkout-session."""
        body = {"user_id": "user_123", "items": [book()], **fields}
        return ok(await self.post("/create-checkout-session", body))

    async def payment(self, any_id: str) -> Document:
        return ok(await self.get(f"/payment/{any_id}"))

    async def orders(self, user_id: str = "user_123") -> list[Document]:
        return list(ok(await self.get(f"/user/{user_id}/orders"))["orders"])

    # Looking into the store

    async def stored(self, collection: str) -> list[Document]:
        return await self.databases.payments[collection].find({}).to_list(None)

    async def stored_payment(self, payment_id: str) -> Document:
        document = await self.databases.payments["payments"].find_one({"_id": payment_id})
        assert document is not None, f"{payment_id} is not in the store"
        return document

    async def user(self, user_id: Any = "user_123") -> Document:
        document = await self.databases.auth["users"].find_one({"_id": user_id})
        assert document is not None, f"{user_id} is not in the store"
        return document

    async def credits(self, user_id: Any = "user_123") -> int:
        return int((await self.user(user_id))["credits"])

    # Being Stripe

    async def deliver(
        self, event: Mapping[str, Any], *, secret: str = WEBHOOK_SECRET
    ) -> httpx.Response:
        """Sends one event to the webhook, signed now."""
        payload = json.dumps(event)
        signature = stripe.WebhookSignature.generate_signature_header(payload, secret)
        return await self.client.post(
            f"{BASE_PATH}/webhook/stripe",
            content=payload,
            headers={"Stripe-Signature": signature, "Content-Type": "application/json"},
        )

    def events(self, type: str) -> Sequence[Document]:
        """Events of a type that Stripe made, as they are delivered, the oldest first."""
        return [json.loads(json.dumps(event)) for event in self.stripe.events.all(type=type)]


def ok(response: httpx.Response) -> Document:
    """The body of a 200; anything else fails the test with the body shown."""
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    body: Document = response.json()
    return body


def refused(response: httpx.Response, status: int, code: str) -> Document:
    """The problem of a refusal, checked to be one (RFC 9457)."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    problem: Document = response.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert isinstance(problem["detail"], str)
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def book(**fields: Any) -> Document:
    """A cart item."""
    return {"book_id": "dune", "title": "Dune", "price_cents": 999, "credits": 1, **fields}


@dataclass
class ShopOptions:
    """What a test may want otherwise. ``settings`` are Settings' fields."""

    settings: dict[str, Any] = field(default_factory=dict)
    users: Sequence[Document] = (
        {"_id": "user_123", "credits": 10},
        {"_id": "user_456", "credits": 0},
    )
    webhooks: bool = True
    connect: DatabaseConnector = connect


@contextlib.asynccontextmanager
async def open_shop(options: ShopOptions) -> AsyncIterator[Shop]:
    """Starts everything and stops it in the order of a shutdown."""
    clock = ShiftableClock()
    webhook_transport = _LateTransport()
    config = SandboxConfig(
        webhook_endpoints=[WebhookEndpointConfig(url=WEBHOOK_URL, secret=WEBHOOK_SECRET)]
        if options.webhooks
        else [],
        retry_schedule=(0.02, 0.04, 0.08),
        delayed_payment_seconds=None,
        refund_settle_seconds=None,
        balance_transaction_seconds=0.01,
    )
    sandbox = Sandbox(config, webhook_transport=webhook_transport)
    async with contextlib.AsyncExitStack() as stack:
        stripe_base = await stack.enter_async_context(serve(sandbox))
        databases = await stack.enter_async_context(
            _opened(options, settings_of(options, stripe_base))
        )
        settings = settings_of(options, stripe_base)

        @contextlib.asynccontextmanager
        async def reuse(_settings: Settings) -> AsyncIterator[Databases]:
            yield databases

        if options.users:
            await databases.auth["users"].insert_many([dict(user) for user in options.users])
        app = create_app(settings, connect=reuse, clock=clock)
        await stack.enter_async_context(app.router.lifespan_context(app))
        # raise_app_exceptions=False: an unforeseen error is to be seen as the 500 that it is.
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        webhook_transport.target = transport
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://shop.test")
        )
        yield Shop(app, client, sandbox, databases, settings, clock)


def settings_of(options: ShopOptions, stripe_base: str) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "mongodb_url": "mongomock://",
            "auth_mongodb_url": "mongomock://",
            "stripe_secret_key": "sk_test_suite",
            "stripe_publishable_key": "pk_test_suite",
            "stripe_webhook_secret": WEBHOOK_SECRET,
            "stripe_api_base": stripe_base,
            "reconcile_interval_seconds": 0,
            **options.settings,
        },
    )


@contextlib.asynccontextmanager
async def _opened(options: ShopOptions, settings: Settings) -> AsyncIterator[Databases]:
    """A store that outlives the application, so that a test can restart it on the same data."""
    async with options.connect(settings) as databases:
        yield databases


class _LateTransport(httpx.AsyncBaseTransport):
    """Webhooks go to an application that is made after the sandbox whose address it needs."""

    target: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.target is None:
            raise httpx.ConnectError("the shop is not open yet")
        return await self.target.handle_async_request(request)
