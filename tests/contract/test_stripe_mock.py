"""Every request that the gateway makes, judged by Stripe's own mock, which knows Stripe's published
API description: it answers 400 to a parameter that is not in it, or that is of another type.

Its answers are samples, the same for everyone, so only that they were given is asked here; what
they mean is compared in test_stripe_gateway.py. `make test-stripe-mock` makes the mock and sets its
URL.
"""

import contextlib
import inspect
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
import stripe
from pydantic import SecretStr

from app.domain.cart import CartItem
from app.domain.payments import (
    CheckoutDetails,
    ElementsDetails,
    Payment,
    PaymentFlow,
    PaymentStatus,
)
from app.domain.refunds import Refund, RefundStatus
from app.gateways.payments import PaymentGateway
from app.gateways.stripe import StripeConnector, connect_stripe, open_stripe_gateway
from app.metrics import Metrics
from app.settings import Settings

MOCK_URL: Final = os.environ.get("STRIPE_MOCK_URL", "")
KEY: Final = "sk_test_123"
NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
PAGE: Final = "http://localhost:5173/checkout"

pytestmark = pytest.mark.skipif(not MOCK_URL, reason="needs Stripe's mock: make test-stripe-mock")


def payment(**fields: Any) -> Payment:
    return Payment(
        **{
            "payment_id": "pay_1",
            "user_id": "user_123",
            "flow": PaymentFlow.PAYMENT_INTENT,
            "status": PaymentStatus.PENDING,
            "amount": 999,
            "currency": "usd",
            "items": (CartItem("dune", 2, 999, 1, "Dune"), CartItem("ubik", 1, 0, 1, None)),
            "metadata": {"campaign": "spring"},
            "stripe_payment_intent_id": "pi_1",
            "created_at": NOW,
            "updated_at": NOW,
            **fields,
        }
    )


def by_checkout(email: str | None) -> Payment:
    details = CheckoutDetails(
        f"{PAGE}/success?session_id={{CHECKOUT_SESSION_ID}}", f"{PAGE}/cancel", email
    )
    return payment(flow=PaymentFlow.CHECKOUT_SESSION, checkout=details)


def refund(reason: str | None) -> Refund:
    return Refund(
        "rfd_1", 99, 0, RefundStatus.PENDING, reason=reason, created_at=NOW, updated_at=NOW
    )


async def every_page(pages: AsyncIterator[Any]) -> list[Any]:
    return [page async for page in pages]


Call = Callable[[PaymentGateway], Coroutine[Any, Any, Any]]

CALLS: Final[Mapping[str, Call]] = {
    "create_payment_intent": lambda g: g.create_payment_intent(payment()),
    "create_payment_intent, yen": lambda g: g.create_payment_intent(payment(currency="jpy")),
    "retrieve_payment_intent": lambda g: g.retrieve_payment_intent("pi_1"),
    "confirm_payment_intent": lambda g: g.confirm_payment_intent(
        "pi_1", payment_method="pm_card_visa", confirmation_id="cnf_1"
    ),
    "confirm_payment_intent, as it is": lambda g: g.confirm_payment_intent(
        "pi_1", payment_method=None, confirmation_id="cnf_1"
    ),
    "create_payment_intent, with a receipt": lambda g: g.create_payment_intent(
        payment(elements=ElementsDetails("anna@example.com", "Order 17"))
    ),
    "cancel_payment_intent": lambda g: g.cancel_payment_intent("pi_1", reason="abandoned"),
    "cancel_payment_intent, by its owner": lambda g: g.cancel_payment_intent(
        "pi_1", reason="requested_by_customer"
    ),
    "create_checkout_session": lambda g: g.create_checkout_session(by_checkout(None)),
    "create_checkout_session, to an address": lambda g: g.create_checkout_session(
        by_checkout("anna@example.com")
    ),
    "retrieve_checkout_session": lambda g: g.retrieve_checkout_session("cs_1"),
    "expire_checkout_session": lambda g: g.expire_checkout_session("cs_1"),
    "create_refund": lambda g: g.create_refund(payment(), refund(None)),
    "create_refund, Stripe's reason": lambda g: g.create_refund(payment(), refund("duplicate")),
    "create_refund, another reason": lambda g: g.create_refund(payment(), refund("it was late")),
    "retrieve_refund": lambda g: g.retrieve_refund("re_1"),
    "retrieve_dispute": lambda g: g.retrieve_dispute("du_1"),
    "retrieve_early_fraud_warning": lambda g: g.retrieve_early_fraud_warning("issfr_1"),
    "list_refunds": lambda g: g.list_refunds("pi_1"),
    "list_events": lambda g: every_page(
        g.list_events(["payment_intent.succeeded", "refund.failed"], since=NOW)
    ),
}


@contextlib.asynccontextmanager
async def opened(connect: StripeConnector = connect_stripe) -> AsyncIterator[PaymentGateway]:
    settings = Settings(_env_file=None, stripe_secret_key=SecretStr(KEY), stripe_api_base=MOCK_URL)
    metrics = Metrics(version="0", stripe_mode="test")
    async with open_stripe_gateway(settings, metrics, connect, deployment="mock") as gateway:
        yield gateway


@pytest.mark.parametrize("name", CALLS)
async def test_stripe_takes_the_request(name: str) -> None:
    async with opened() as gateway:
        await CALLS[name](gateway)


class ManyPages(stripe.HTTPClient):
    """The first page of each list says that there is more, which no sample does."""

    name = "many_pages"

    def __init__(self, inner: stripe.HTTPClient) -> None:
        super().__init__()
        self.inner = inner
        self.asked: list[str] = []

    async def sleep_async(self, secs: float) -> None:
        await self.inner.sleep_async(secs)

    async def request_async(
        self, method: str, url: str, headers: Any, post_data: Any = None
    ) -> tuple[bytes, int, Any]:
        self.asked.append(url)
        content, status, answered = await self.inner.request_async(method, url, headers, post_data)
        if "starting_after" not in url:
            content = json.dumps({**json.loads(content), "has_more": True}).encode()
        return content, status, answered


@pytest.mark.parametrize("name", ["list_events", "list_refunds"])
async def test_stripe_takes_the_request_for_the_next_page(name: str) -> None:
    clients: list[ManyPages] = []

    @contextlib.asynccontextmanager
    async def connect(settings: Settings) -> AsyncIterator[stripe.HTTPClient]:
        async with connect_stripe(settings) as inner:
            clients.append(ManyPages(inner))
            yield clients[-1]

    async with opened(connect) as gateway:
        await CALLS[name](gateway)
    assert ["starting_after" in url for url in clients[0].asked] == [False, True]


def test_every_request_of_the_gateway_is_made_here() -> None:
    methods = {
        name
        for name, method in inspect.getmembers(PaymentGateway, inspect.isfunction)
        if inspect.iscoroutinefunction(method) or name.startswith("list_")
    }
    assert {name.partition(",")[0] for name in CALLS} == methods


async def test_the_mock_refuses_what_stripe_does_not_know() -> None:
    async with httpx.AsyncClient(base_url=MOCK_URL, auth=(KEY, "")) as client:
        good = {"amount": "999", "currency": "usd"}
        for wrong in ({**good, "colour": "red"}, {**good, "amount": "much"}, {"amount": "999"}):
            assert (await client.post("/v1/payment_intents", data=wrong)).status_code == 400
        assert (await client.post("/v1/payment_intents", data=good)).status_code == 200
