"""All in one process, with real parts: the application over ASGI (its lifespan run), the
embedded store, and the Stripe sandbox on a real socket, to which the real Stripe SDK talks HTTP.
With TEST_MONGODB_URL set, the store is that server.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
from app.services.batches import Report
from app.settings import Settings
from stripe_sandbox import Sandbox, SandboxConfig, WebhookEndpointConfig, serve
from tests.support.store import own_store, removed_afterwards

WEBHOOK_SECRET = "whsec_test_secret_of_the_suite"
WEBHOOK_URL = f"http://shop.test{BASE_PATH}/webhook/stripe"

GIVE_UP = {"Stripe-Should-Retry": "false"}
"""``headers=`` of a fault at Stripe: the SDK passes it on at once instead of trying again."""

_TLS = httpx.create_ssl_context()
"""Made once: it takes longer than any request of a test, and none uses it."""


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

    async def confirm(
        self, created: Document, payment_method: str | None = None, *, key: str | None = None
    ) -> httpx.Response:
        """confirm-payment for a reply of ``create_intent``."""
        body = {"payment_intent_id": created["payment_intent_id"]}
        if payment_method is not None:
            body["payment_method_id"] = payment_method
        return await self.post("/confirm-payment", body, key=key)

    async def confirm_in_browser(
        self, created: Document, payment_method: str = "pm_card_visa"
    ) -> httpx.Response:
        """What Stripe.js does: asks Stripe itself, with the publishable key and the client secret.
        The answer is Stripe's.
        """
        async with httpx.AsyncClient(
            base_url=self.settings.stripe_api_base, verify=_TLS
        ) as browser:
            return await browser.post(
                f"/v1/payment_intents/{created['payment_intent_id']}/confirm",
                headers={"Authorization": f"Bearer {self.settings.stripe_publishable_key}"},
                data={
                    "client_secret": created["client_secret"],
                    "payment_method": payment_method,
                    "return_url": "http://localhost:5173/checkout/success",
                },
            )

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

    async def transitions(self, payment_id: str) -> list[tuple[str, str]]:
        """The payment's audit trail as (from, to), the oldest first."""
        history = (await self.stored_payment(payment_id))["history"]
        return [(line["from"], line["to"]) for line in history]

    async def user(self, user_id: Any = "user_123") -> Document:
        document = await self.databases.auth["users"].find_one({"_id": user_id})
        assert document is not None, f"{user_id} is not in the store"
        return document

    async def credits(self, user_id: Any = "user_123") -> int:
        return int((await self.user(user_id))["credits"])

    async def metric(self, sample: str) -> float:
        """One line of /metrics, by its name and labels in alphabetical order; 0 without it."""
        exposition = (await self.client.get("/metrics")).text
        found = [line for line in exposition.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    # Letting time pass

    def later(self, **duration: float) -> None:
        """Time passes here and at Stripe: ``later(hours=25)``."""
        self.clock.advance(**duration)
        self.stripe.clock.advance(timedelta(**duration).total_seconds())

    async def reconcile(self, **duration: float) -> Report:
        """One run of the reconciler, so much later."""
        self.later(**duration)
        return await self.services.reconciliation.run_once()

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
    require_sentence(problem["detail"])
    for error in problem.get("errors", ()):
        require_sentence(f"{error['message']}.")
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def require_sentence(text: str) -> None:
    """What a shopper may be shown: no pattern, nothing of a library's or of our own inner words."""
    assert re.fullmatch(r"[^\\^\n]*[^.]\.", text), text
    assert not re.search("Input should|pattern|regex|valid string|Field required|pydantic", text)
    assert not re.search(r"\b[A-Z][a-z]+(?:Error|Failed|Body|Reply)\b", text), text


async def until(condition: Callable[[], bool]) -> None:
    """Gives way until something outside, at the sandbox say, has happened."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - who is waited for counts, it does not tell
            await asyncio.sleep(0)


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
        store = own_store()
        settings = settings_of(options, stripe_base, store)
        await stack.enter_async_context(removed_afterwards(store))
        databases = await stack.enter_async_context(_opened(options, settings))

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


def settings_of(options: ShopOptions, stripe_base: str, store: Mapping[str, str]) -> Settings:
    return Settings(
        _env_file=None,
        **{
            **store,
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
