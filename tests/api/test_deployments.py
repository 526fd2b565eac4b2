"""Several environments on one Stripe account: each hears of the payments of all of them."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from structlog.testing import capture_logs

from app.application import create_app
from app.metrics import STRIPE_EVENT_TYPES
from app.repositories.database import PAYMENTS_DATABASE, Commands, Databases, connect
from app.repositories.locks import LockRepository
from app.routers import BASE_PATH
from app.settings import Settings
from tests.support.shop import Shop, ShopOptions, ok, open_shop, refused, settings_of
from tests.support.store import own_store, removed_afterwards

# Stripe sends nothing by itself: each test delivers what it is about.
pytestmark = pytest.mark.shop(webhooks=False)

Document = dict[str, Any]
FINAL: Final = {"processed", "ignored"}


@contextlib.asynccontextmanager
async def service_beside(
    shop: Shop, databases: Databases | None = None, **settings: Any
) -> AsyncIterator[Shop]:
    """Another service on the shop's Stripe account, on its own databases or on these."""
    store = own_store()
    chosen = settings_of(ShopOptions(settings=settings), shop.settings.stripe_api_base, store)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(removed_afterwards(store))
        if databases is None:
            databases = await stack.enter_async_context(connect(chosen))

        @contextlib.asynccontextmanager
        async def reuse(_settings: Settings) -> AsyncIterator[Databases]:
            yield databases

        app = create_app(chosen, connect=reuse, clock=shop.clock)
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
                base_url="http://other.test",
            )
        )
        yield Shop(app, client, shop.stripe, databases, chosen, shop.clock)


async def sell(shop: Shop) -> set[str]:
    """Everything that makes events; the ids of the payments."""
    stripe = shop.stripe
    paid = await shop.pay_by_card(payment_method="pm_card_createIssuerFraudRecord")
    ok(await shop.post("/refund", {"payment_id": paid["payment_id"], "amount_cents": 100}))
    stripe.dashboard_refund(payment_intent=paid["stripe_payment_intent_id"], amount=200)
    disputed = await shop.pay_by_card()
    dispute = stripe.open_dispute(payment_intent=disputed["stripe_payment_intent_id"])
    stripe.close_dispute(dispute["id"], "won")
    session = await shop.create_session()
    stripe.pay_session(session["session_id"])
    expired = await shop.create_session()
    stripe.expire_session(expired["session_id"])
    declined = await shop.create_intent()
    await shop.confirm(declined, "pm_card_visa_chargeDeclined")
    made = (paid, disputed, session, expired, declined)
    return {payment["payment_id"] for payment in made}


async def assert_right(shop: Shop, ids: set[str]) -> None:
    """Its own payments are as Stripe has them, nothing failed, and nothing else is here."""
    payments = await shop.stored("payments")
    assert {payment["_id"] for payment in payments} == ids
    assert sorted(payment["status"] for payment in payments) == [
        "canceled",
        "failed",
        "partially_refunded",
        "succeeded",
        "succeeded",
    ]
    refunds = [r for payment in payments for r in payment["refunds"]]
    assert sorted((r["amount"], r["status"]) for r in refunds) == [
        (100, "succeeded"),
        (200, "succeeded"),
    ]
    assert [d["status"] for payment in payments for d in payment["disputes"]] == ["won"]
    assert len([w for payment in payments for w in payment["fraud_warnings"]]) == 1
    assert {event["status"] for event in await shop.stored("webhook_events")} <= FINAL
    for result in ("failed", "unreadable"):
        for type in (*STRIPE_EVENT_TYPES, "other"):
            sample = f'webhook_events_total{{result="{result}",type="{type}"}}'
            assert await shop.metric(sample) == 0, sample


@pytest.mark.parametrize("names", [("", ""), ("staging", "development")], ids=str)
async def test_two_environments_on_one_account_do_not_disturb_each_other(
    shop: Shop, names: tuple[str, str]
) -> None:
    async with (
        service_beside(shop, deployment_name=names[0]) as first,
        service_beside(shop, deployment_name=names[1]) as second,
    ):
        sold = {id(service): await sell(service) for service in (first, second)}
        for event in first.stripe.events.all():
            for service in (first, second):
                assert ok(await service.deliver(event))["result"] in FINAL, event["type"]
        for service in (first, second):
            await assert_right(service, sold[id(service)])
            report = await service.reconcile(minutes=2)
            assert not report.failed
            await assert_right(service, sold[id(service)])


async def test_two_environments_without_webhooks_do_not_disturb_each_other(shop: Shop) -> None:
    async with service_beside(shop) as first, service_beside(shop) as second:
        sold = {id(service): await sell(service) for service in (first, second)}
        for service in (first, second):
            report = await service.reconcile(minutes=2)
            assert not report.failed
            await assert_right(service, sold[id(service)])


async def test_what_we_make_at_stripe_carries_our_name(shop: Shop) -> None:
    async with service_beside(shop, deployment_name="staging") as service:
        paid = await service.pay_by_card()
        ok(await service.post("/refund", {"payment_id": paid["payment_id"]}))
        session = await service.create_session()
        settled = shop.stripe.pay_session(session["session_id"])
        intent_id = paid["stripe_payment_intent_id"]
        (refund,) = shop.stripe.refunds.list({"payment_intent": intent_id})["data"]
        assert settled.payment_intent is not None
        for made in (
            shop.stripe.payment_intents.named(intent_id).data,
            shop.stripe.checkout_sessions.named(session["session_id"]).data,
            settled.payment_intent,
            refund,
        ):
            assert made["metadata"]["deployment"] == "staging", made["object"]


def of_nobody(event: Document, deployment: str | None) -> Document:
    """The same event about a payment that is nowhere."""
    metadata = {"payment_id": "pay_of_nobody", "user_id": "user_123"}
    if deployment is not None:
        metadata["deployment"] = deployment
    told = {**event["data"]["object"], "id": "pi_of_nobody", "metadata": metadata}
    return {**event, "id": "evt_of_nobody", "data": {"object": told}}


@pytest.mark.shop(webhooks=False, settings={"deployment_name": "ours"})
@pytest.mark.parametrize("deployment", ["theirs", "OURS", None])
async def test_an_event_of_another_deployment_is_ignored_at_once(
    shop: Shop, deployment: str | None
) -> None:
    await shop.pay_by_card()
    (event,) = shop.events("payment_intent.succeeded")
    with capture_logs() as logs:
        answer = await shop.deliver(of_nobody(event, deployment))

    assert ok(answer)["result"] == "ignored"
    assert [(e["_id"], e["status"]) for e in await shop.stored("webhook_events")] == [
        ("evt_of_nobody", "ignored")
    ]
    told = [line for line in logs if line["event"] == "webhook.not_ours"]
    assert [(line["log_level"], line["deployment"]) for line in told] == [("info", deployment)]
    sample = 'webhook_events_total{result="ignored",type="payment_intent.succeeded"}'
    assert await shop.metric(sample) == 1


@pytest.mark.shop(webhooks=False, settings={"deployment_name": "ours"})
async def test_an_event_of_our_deployment_waits_for_its_payment(shop: Shop) -> None:
    await shop.pay_by_card()
    (event,) = shop.events("payment_intent.succeeded")
    ours = of_nobody(event, "ours")
    refused(await shop.deliver(ours), 503, "event_not_yet_applicable")
    shop.clock.advance(hours=2)
    assert ok(await shop.deliver(ours))["result"] == "ignored"


async def test_payments_made_under_another_name_are_ours_when_we_have_them(shop: Shop) -> None:
    """After a change of the name, or from before payments carried one."""
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    shop.stripe.dashboard_refund(payment_intent=created["payment_intent_id"], amount=100)
    old = shop.events("payment_intent.succeeded")[0]
    del old["data"]["object"]["metadata"]["deployment"]

    async with service_beside(shop, shop.databases, deployment_name="renamed") as renamed:
        for event in (old, *shop.events("charge.refunded"), *shop.events("refund.created")):
            assert ok(await renamed.deliver(event))["result"] == "processed"
        payment = await renamed.payment(created["payment_id"])

    assert (payment["status"], payment["refunded_cents"]) == ("partially_refunded", 100)


# The name that is made


async def named(shop: Shop, databases: Databases | None = None) -> str:
    async with service_beside(shop, databases) as service:
        created = await service.create_intent()
        intent = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
        name: str = intent["metadata"]["deployment"]
        return name


async def test_each_database_has_a_name_that_outlives_its_instances(shop: Shop) -> None:
    first = await named(shop, shop.databases)
    assert first == await named(shop, shop.databases)
    assert first != await named(shop)


async def test_instances_that_start_at_once_have_one_name(shop: Shop) -> None:
    locks = shop.databases.payments["locks"]
    await locks.delete_one({"_id": "deployment"})
    repositories = [LockRepository(locks, Commands(PAYMENTS_DATABASE)) for _ in range(10)]
    names = await asyncio.gather(*(each.deployment_name() for each in repositories))
    assert len(set(names)) == 1
    assert 1 <= len(names[0]) <= 64


async def test_application_that_is_closed_is_freed() -> None:
    """A thousand tests make one each, and whatever caches its routes would keep its stores too."""
    async with open_shop(ShopOptions()) as shop:
        for path in ("/", "/metrics", "/docs", "/openapi.json", f"{BASE_PATH}/health/"):
            assert (await shop.client.get(path)).status_code == 200
        closed = weakref.ref(shop.app)
    del shop
    gc.collect()
    assert closed() is None
