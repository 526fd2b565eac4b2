"""The reconciler: whatever was cut short or never heard of converges without anybody's help."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.__main__ import _run_once
from app.dependencies import Services, open_services
from app.metrics import Metrics
from app.repositories.database import Databases
from app.services import batches
from app.settings import Settings
from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, ok, open_shop, refused

# Stripe sends nothing: everything is found by the reconciler alone.
pytestmark = pytest.mark.shop(webhooks=False)

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]


async def due_at(shop: Shop, payment_id: str) -> datetime:
    found: datetime = (await shop.stored_payment(payment_id))["reconcile_at"]
    return found


async def assert_at_rest(shop: Shop, payment_id: str) -> None:
    assert "reconcile_at" not in await shop.stored_payment(payment_id)


async def statuses(shop: Shop, *payment_ids: str) -> list[str]:
    return [(await shop.payment(payment_id))["status"] for payment_id in payment_ids]


async def cursor(shop: Shop) -> datetime | None:
    place = await shop.databases.payments["locks"].find_one({"_id": "stripe_events"})
    return place["at"] if place else None


def intents_at_stripe(shop: Shop) -> list[Document]:
    listed: list[Document] = shop.stripe.payment_intents.list({"limit": 100})["data"]
    return listed


def sessions_at_stripe(shop: Shop) -> list[Document]:
    listed: list[Document] = shop.stripe.checkout_sessions.list({"limit": 100})["data"]
    return listed


# A day without webhooks


async def test_a_day_without_webhooks_converges_whatever_happened(shop: Shop) -> None:
    expected: dict[str, tuple[str, int, int]] = {}
    """payment id -> status, refunded cents, disputes"""

    by_card = await shop.create_intent()
    await shop.confirm_in_browser(by_card)
    expected[by_card["payment_id"]] = ("succeeded", 0, 0)

    second_try = await shop.create_intent()
    await shop.confirm_in_browser(second_try, "pm_card_visa_chargeDeclined")
    await shop.confirm_in_browser(second_try, "pm_card_mastercard")
    expected[second_try["payment_id"]] = ("succeeded", 0, 0)

    declined = await shop.create_intent()
    await shop.confirm_in_browser(declined, "pm_card_visa_chargeDeclined")
    expected[declined["payment_id"]] = ("failed", 0, 0)

    authenticated = await shop.create_intent()
    await shop.confirm_in_browser(authenticated, "pm_card_threeDSecure2Required")
    shop.stripe.authenticate(authenticated["payment_intent_id"])
    expected[authenticated["payment_id"]] = ("succeeded", 0, 0)

    under_way = await shop.create_intent()
    await shop.confirm_in_browser(under_way, "pm_usBankAccount")
    expected[under_way["payment_id"]] = ("processing", 0, 0)

    settled = await shop.create_intent()
    await shop.confirm_in_browser(settled, "pm_usBankAccount")
    shop.stripe.settle(settled["payment_intent_id"])
    expected[settled["payment_id"]] = ("succeeded", 0, 0)

    on_page = await shop.create_session()
    shop.stripe.pay_session(on_page["session_id"])
    expected[on_page["payment_id"]] = ("succeeded", 0, 0)

    bank_on_page = await shop.create_session()
    debit = shop.stripe.pay_session(bank_on_page["session_id"], "pm_usBankAccount").payment_intent
    assert debit is not None
    shop.stripe.settle(debit["id"])
    expected[bank_on_page["payment_id"]] = ("succeeded", 0, 0)

    refused_by_bank = await shop.create_session()
    debit = shop.stripe.pay_session(
        refused_by_bank["session_id"], "pm_usBankAccount"
    ).payment_intent
    assert debit is not None
    shop.stripe.settle(debit["id"], "failed")
    expected[refused_by_bank["payment_id"]] = ("failed", 0, 0)

    left_page = await shop.create_session()
    shop.stripe.expire_session(left_page["session_id"])
    expected[left_page["payment_id"]] = ("canceled", 0, 0)

    known_refunded = await shop.pay_by_card()
    shop.stripe.dashboard_refund(
        payment_intent=known_refunded["stripe_payment_intent_id"], amount=400
    )
    expected[known_refunded["payment_id"]] = ("partially_refunded", 400, 0)

    unheard_refunded = await shop.create_intent()
    await shop.confirm_in_browser(unheard_refunded)
    shop.stripe.dashboard_refund(payment_intent=unheard_refunded["payment_intent_id"])
    expected[unheard_refunded["payment_id"]] = ("refunded", 999, 0)

    refund_came_back = await shop.pay_by_card(payment_method="pm_card_refundFail")
    ok(await shop.post("/refund", {"payment_id": refund_came_back["payment_id"]}))
    (made,) = shop.stripe.refunds.list(
        {"payment_intent": refund_came_back["stripe_payment_intent_id"]}
    )["data"]
    shop.stripe.fail_refund(made["id"])
    expected[refund_came_back["payment_id"]] = ("succeeded", 0, 0)

    disputed = await shop.create_intent()
    await shop.confirm_in_browser(disputed, "pm_card_createDispute")
    expected[disputed["payment_id"]] = ("succeeded", 0, 1)

    report = await shop.reconcile(hours=23)

    assert not report.failed
    found = {}
    for payment_id in expected:
        payment = await shop.payment(payment_id)
        found[payment_id] = (
            payment["status"],
            payment["refunded_cents"],
            len(payment["disputes"]),
        )
    assert found == expected
    orders = {order["payment_id"]: order["status"] for order in await shop.stored("orders")}
    as_paid = {"succeeded": "paid", "partially_refunded": "partially_refunded"}
    as_paid["refunded"] = "refunded"
    assert orders == {
        payment_id: as_paid[status]
        for payment_id, (status, _, _) in expected.items()
        if status in as_paid
    }
    for payment_id, (status, _, _) in expected.items():
        if status not in ("failed", "processing"):
            await assert_at_rest(shop, payment_id)

    again = await shop.reconcile()
    assert not again.looked_at, "nothing is due, nothing was missed"


# Died half-way


async def test_an_intent_that_was_recorded_and_never_made_is_made_with_the_same_key(
    shop: Shop,
) -> None:
    shop.stripe.faults.add("error_before", path="^/v1/payment_intents$", headers=GIVE_UP)
    refused(
        await shop.post("/create-payment-intent", {"user_id": "user_123", "amount": 999}),
        502,
        "stripe_error",
    )
    (record,) = await shop.stored("payments")
    assert "stripe_payment_intent_id" not in record

    report = await shop.reconcile(minutes=2)

    assert not report.failed
    (intent,) = intents_at_stripe(shop)
    assert intent["metadata"]["payment_id"] == record["_id"]
    payment = await shop.payment(record["_id"])
    assert payment["stripe_payment_intent_id"] == intent["id"]
    keys = {r.idempotency_key for r in shop.stripe.requests.matching("POST", "payment_intents$")}
    assert len(keys) == 1


async def test_a_session_that_was_recorded_and_never_made_is_made_with_the_same_key(
    shop: Shop,
) -> None:
    shop.stripe.faults.add("error_before", path="^/v1/checkout/sessions$", headers=GIVE_UP)
    body = {"user_id": "user_123", "items": [{"book_id": "dune", "price_cents": 999}]}
    refused(await shop.post("/create-checkout-session", body), 502, "stripe_error")
    (record,) = await shop.stored("payments")

    assert not (await shop.reconcile(minutes=2)).failed

    (session,) = sessions_at_stripe(shop)
    payment = await shop.payment(record["_id"])
    assert payment["stripe_checkout_session_id"] == session["id"]
    keys = {r.idempotency_key for r in shop.stripe.requests.matching("POST", "sessions$")}
    assert len(keys) == 1


@pytest.mark.parametrize("flow", ["intent", "session"])
async def test_what_stripe_made_and_we_did_not_record_is_found_again_and_not_made_twice(
    flow: str,
) -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        faults.add("update_one", collection="payments")
        body: Document = {"user_id": "user_123"}
        if flow == "intent":
            answer = await shop.post("/create-payment-intent", {**body, "amount": 999})
        else:
            items = [{"book_id": "dune", "price_cents": 999}]
            answer = await shop.post("/create-checkout-session", {**body, "items": items})
        refused(answer, 503, "database_unavailable")
        (record,) = await shop.stored("payments")

        assert not (await shop.reconcile(minutes=2)).failed

        made = intents_at_stripe(shop) if flow == "intent" else sessions_at_stripe(shop)
        assert len(made) == 1
        name = "stripe_payment_intent_id" if flow == "intent" else "stripe_checkout_session_id"
        assert (await shop.payment(record["_id"]))[name] == made[0]["id"]


async def test_what_was_never_made_at_stripe_is_given_up_after_a_day(shop: Shop) -> None:
    for path in ("payment_intents", "checkout/sessions"):
        shop.stripe.faults.add(
            "error_before", method="POST", path=f"/v1/{path}$", times=None, headers=GIVE_UP
        )
    body: Document = {"user_id": "user_123"}
    items = [{"book_id": "dune", "price_cents": 999}]
    await shop.post("/create-payment-intent", {**body, "amount": 999})
    await shop.post("/create-checkout-session", {**body, "items": items})

    assert (await shop.reconcile(hours=1)).failed["payment"] == 2
    assert {p["status"] for p in await shop.stored("payments")} == {"pending"}
    shop.stripe.faults.clear()
    assert not (await shop.reconcile(hours=23, minutes=1)).failed

    for payment in await shop.stored("payments"):
        assert payment["status"] == "canceled"
        assert payment["history"][-1]["cause"] == "abandoned"
        assert "reconcile_at" not in payment
    assert intents_at_stripe(shop) == sessions_at_stripe(shop) == [], "nothing is made that late"


async def test_a_paid_payment_that_missed_its_order_gets_it() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        faults.add("insert_one", collection="orders")
        refused(await shop.confirm(created, "pm_card_visa"), 503, "database_unavailable")
        assert (await shop.payment(created["payment_id"]))["status"] == "succeeded"
        assert await shop.orders() == []
        shop.stripe.faults.add("error_before", path="/v1/events", headers=GIVE_UP)

        report = await shop.reconcile(minutes=2)

        assert report.moved["payment"] == 1, "no event tells of it"

        payment = await shop.payment(created["payment_id"])
        assert [order["order_id"] for order in await shop.orders()] == [payment["order_id"]]
        await assert_at_rest(shop, created["payment_id"])


async def test_a_confirmation_that_nobody_heard_of_is_followed_up(shop: Shop) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("error_after", path="/confirm$", headers=GIVE_UP)
    refused(await shop.confirm(created, "pm_card_visa"), 502, "stripe_error")
    assert (await shop.payment(created["payment_id"]))["status"] == "pending"

    await shop.reconcile(minutes=2)

    assert (await shop.payment(created["payment_id"]))["status"] == "succeeded"
    assert len(await shop.orders()) == 1


# Abandoned


async def test_what_nobody_paid_for_a_day_is_canceled_at_stripe_too(shop: Shop) -> None:
    never_tried = await shop.create_intent()
    declined = await shop.create_intent()
    await shop.confirm_in_browser(declined, "pm_card_visa_chargeDeclined")
    waiting = await shop.create_intent()
    await shop.confirm_in_browser(waiting, "pm_card_threeDSecure2Required")
    debit = await shop.create_intent()
    await shop.confirm_in_browser(debit, "pm_usBankAccount")
    three = [never_tried, declined, waiting]
    ids = [created["payment_id"] for created in three]

    await shop.reconcile(hours=23, minutes=59)
    assert await statuses(shop, *ids) == ["pending", "failed", "pending"]
    assert not (await shop.reconcile(minutes=2)).failed

    assert await statuses(shop, *ids) == ["canceled"] * 3
    for created in three:
        intent = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
        assert (intent["status"], intent["cancellation_reason"]) == ("canceled", "abandoned")
        await assert_at_rest(shop, created["payment_id"])
    assert await shop.orders() == []

    # A bank may take days: what is under way is not given up.
    assert await statuses(shop, debit["payment_id"]) == ["processing"]
    shop.stripe.settle(debit["payment_intent_id"])
    await shop.reconcile(hours=7)
    assert await statuses(shop, debit["payment_id"]) == ["succeeded"]


@pytest.mark.shop(webhooks=False, settings={"abandon_after_seconds": 3600})
async def test_an_abandoned_session_is_expired_at_stripe(shop: Shop) -> None:
    untouched = await shop.create_session()
    declined = await shop.create_session()
    shop.stripe.pay_session(declined["session_id"], "pm_card_visa_chargeDeclined")
    ids = [untouched["payment_id"], declined["payment_id"]]

    await shop.reconcile(minutes=59)
    assert await statuses(shop, *ids) == ["pending", "failed"]
    assert not (await shop.reconcile(minutes=2)).failed

    assert await statuses(shop, *ids) == ["canceled"] * 2
    assert {session["status"] for session in sessions_at_stripe(shop)} == {"expired"}
    for payment_id in ids:
        await assert_at_rest(shop, payment_id)


async def test_a_session_that_expired_at_stripe_is_canceled_here(shop: Shop) -> None:
    session = await shop.create_session()
    assert not (await shop.reconcile(hours=24, minutes=1)).failed
    assert await statuses(shop, session["payment_id"]) == ["canceled"]
    assert shop.stripe.requests.matching("POST", "/expire$") == []


async def test_a_completed_session_whose_bank_debit_failed_is_given_up_after_a_day(
    shop: Shop,
) -> None:
    session = await shop.create_session()
    debit = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount").payment_intent
    assert debit is not None
    shop.stripe.settle(debit["id"], "failed")

    await shop.reconcile(hours=1)
    assert await statuses(shop, session["payment_id"]) == ["failed"]
    await shop.reconcile(hours=23, minutes=1)

    assert await statuses(shop, session["payment_id"]) == ["canceled"]
    await assert_at_rest(shop, session["payment_id"])


async def test_money_that_arrives_as_a_payment_is_abandoned_is_not_lost(shop: Shop) -> None:
    created = await shop.create_intent()
    # Paid between our look and our cancellation: Stripe refuses to cancel it.
    slow = shop.stripe.faults.add("latency", path="/cancel$", seconds=0.8)
    shop.later(hours=24, minutes=1)
    run = asyncio.create_task(shop.services.reconciliation.run_once())
    async with asyncio.timeout(5):
        while not slow.hits:  # noqa: ASYNC110 - the sandbox counts, it does not tell
            await asyncio.sleep(0)
    await shop.confirm_in_browser(created)
    assert not (await run).failed

    assert await statuses(shop, created["payment_id"]) == ["succeeded"]
    assert len(await shop.orders()) == 1


async def test_a_payment_intent_that_stripe_does_not_know_is_given_up_after_a_day(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    await shop.databases.payments["payments"].update_one(
        {"_id": created["payment_id"]}, {"$set": {"stripe_payment_intent_id": "pi_of_nobody"}}
    )
    assert (await shop.reconcile(hours=1)).failed["payment"] == 1
    assert await statuses(shop, created["payment_id"]) == ["pending"]
    assert not (await shop.reconcile(hours=24)).failed
    assert await statuses(shop, created["payment_id"]) == ["canceled"]


# Backing off, and resting


async def test_a_payment_that_does_not_move_is_looked_at_ever_more_rarely(shop: Shop) -> None:
    created = await shop.create_intent()
    payment_id = created["payment_id"]
    assert (await shop.reconcile()).looked_at["payment"] == 0, "it is too young"

    waits = []
    for _ in range(5):
        shop.clock.advance(seconds=(await due_at(shop, payment_id) - shop.clock()).total_seconds())
        report = await shop.services.reconciliation.run_once()
        assert (report.looked_at["payment"], report.moved["payment"]) == (1, 0)
        waits.append(round((await due_at(shop, payment_id) - shop.clock()) / timedelta(minutes=1)))
        again = await shop.services.reconciliation.run_once()
        assert again.looked_at["payment"] == 0

    assert waits == [4, 16, 64, 256, 360]


async def test_a_payment_at_rest_is_never_looked_at_again(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    await assert_at_rest(shop, payment["payment_id"])
    shop.stripe.requests.clear()

    for _ in range(3):
        report = await shop.reconcile(hours=30)
        assert report.looked_at["payment"] == 0

    assert shop.stripe.requests.matching("GET", payment["stripe_payment_intent_id"]) == []


async def test_marks_of_a_credits_payment_are_removed_and_then_it_rests(shop: Shop) -> None:
    payment = await shop.pay_with_credits(credits=2)
    payment_id = payment["payment_id"]
    assert [mark["key"] for mark in (await shop.user())["payment_marks"]] == [payment_id]

    await shop.reconcile(minutes=14)
    assert len((await shop.user())["payment_marks"]) == 1
    report = await shop.reconcile(minutes=2)

    assert not report.failed
    assert (await shop.user())["payment_marks"] == []
    assert await shop.credits() == 8
    await assert_at_rest(shop, payment_id)


# One at a time


@asynccontextmanager
async def another_instance(shop: Shop) -> AsyncIterator[Services]:
    """A second process on the same databases."""

    @asynccontextmanager
    async def reuse(_settings: Settings) -> AsyncIterator[Databases]:
        yield shop.databases

    metrics = Metrics(version="test")
    async with open_services(shop.settings, metrics, reuse, shop.clock) as services:
        yield services


async def test_of_two_reconcilers_at_once_one_works(shop: Shop) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    shop.later(minutes=2)
    async with another_instance(shop) as other:
        reports = await asyncio.gather(
            shop.services.reconciliation.run_once(), other.reconciliation.run_once()
        )
        assert sorted(report.ran for report in reports) == [False, True]
        (idle,) = [report for report in reports if not report.ran]
        assert not idle.looked_at
        assert (await other.reconciliation.run_once()).ran, "the lease was given back"

    assert await statuses(shop, created["payment_id"]) == ["succeeded"]
    assert len(await shop.stored("orders")) == 1


async def test_a_reconciler_that_died_is_replaced_when_its_lease_is_over(shop: Shop) -> None:
    await shop.databases.payments["locks"].insert_one(
        {
            "_id": "reconciler",
            "owner": "reconciler_that_died",
            "until": shop.clock() + timedelta(minutes=10),
        }
    )
    assert not (await shop.reconcile()).ran
    assert not (await shop.reconcile(minutes=9)).ran
    assert (await shop.reconcile(minutes=2)).ran


async def test_a_run_that_fails_gives_the_lease_back_and_is_counted() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        faults.add("find_one", collection="payments", error=RuntimeError("a mistake"))
        assert (await shop.services.reconciliation.run_once()).failed == {"event_list": 1}
        assert await shop.metric('reconciler_runs_total{outcome="failed"}') == 1

        async with another_instance(shop) as other:
            assert (await other.reconciliation.run_once()).ran
        await shop.reconcile()
        assert await shop.metric('reconciler_runs_total{outcome="succeeded"}') == 1


async def test_a_run_whose_lease_was_taken_over_stops() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_by_card()
        shop.stripe.faults.add("error_before", method="POST", path="^/v1/refunds$", headers=GIVE_UP)
        ok(await shop.post("/refund", {"payment_id": payment["payment_id"]}))
        shop.later(minutes=2)
        pause = faults.pause("insert_one", collection="webhook_events")
        run = asyncio.create_task(shop.services.reconciliation.run_once())
        await pause.reached()
        locks = shop.databases.payments["locks"]
        until = shop.clock() + timedelta(minutes=20)
        await locks.update_one(
            {"_id": "reconciler"}, {"$set": {"owner": "reconciler_other", "until": until}}
        )
        shop.later(minutes=11)
        asked = len(shop.stripe.requests.matching("POST", "^/v1/refunds$"))
        pause.go_on()

        report = await run

        assert report.looked_at["payment"] == 0
        assert len(shop.stripe.requests.matching("POST", "^/v1/refunds$")) == asked
        lease = await locks.find_one({"_id": "reconciler"})
        assert lease is not None
        assert lease["owner"] == "reconciler_other", "the other's lease is not given back"
        assert await shop.metric('reconciler_runs_total{outcome="failed"}') == 1
        assert await shop.metric('reconciler_runs_total{outcome="succeeded"}') == 0


@pytest.mark.parametrize(
    ("command", "collection", "step"),
    [("find_one", "locks", "event_list"), ("find", "webhook_events", "events")],
)
async def test_a_step_that_breaks_stops_no_other_and_the_run_counts_as_failed(
    command: str, collection: str, step: str
) -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        await shop.confirm_in_browser(created)
        shop.stripe.faults.add("error_before", path="^/v1/events", times=None, headers=GIVE_UP)
        faults.add(command, collection=collection, times=None, error=RuntimeError("a mistake"))

        report = await shop.reconcile(minutes=2)

        assert report.failed[step] == 1
        assert report.moved["payment"] == 1
        assert await statuses(shop, created["payment_id"]) == ["succeeded"]
        assert await shop.metric('reconciler_runs_total{outcome="failed"}') == 1
        assert await shop.metric(f'reconciler_items_total{{kind="{step}",outcome="failed"}}') == 1


async def test_payments_that_cannot_be_read_hold_up_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer version wrote them before it was rolled back; they are the oldest of all."""
    monkeypatch.setattr(batches, "BATCH", 2)
    payments = shop.databases.payments["payments"]
    unreadable = [(await shop.create_intent())["payment_id"] for _ in range(2)]
    await payments.update_one({"_id": unreadable[0]}, {"$set": {"status": "on_hold"}})
    await payments.update_one({"_id": unreadable[1]}, {"$unset": {"amount": ""}})
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    # Or the event would have told already.
    shop.stripe.faults.add("error_before", path="^/v1/events", times=None, headers=GIVE_UP)

    report = await shop.reconcile(minutes=2)

    assert (report.failed["payment"], report.moved["payment"]) == (2, 1)
    assert await statuses(shop, created["payment_id"]) == ["succeeded"]
    for payment_id in unreadable:
        wait = await due_at(shop, payment_id) - shop.clock()
        assert timedelta(minutes=59) < wait <= timedelta(hours=1)
    refused(await shop.get(f"/payment/{unreadable[0]}"), 500, "internal_error")
    assert (await shop.reconcile(minutes=2)).looked_at["payment"] == 0

    await payments.update_one({"_id": unreadable[0]}, {"$set": {"status": "pending"}})
    await payments.update_one({"_id": unreadable[1]}, {"$set": {"amount": 999}})
    assert (await shop.reconcile(hours=1)).looked_at["payment"] == 2


async def test_marks_that_cannot_be_removed_are_tried_ever_more_rarely() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits()
        shop.later(minutes=16)
        faults.add(database="auth", times=None)
        waits = []
        for _ in range(4):
            assert (await shop.reconcile()).failed == {"payment": 1}
            wait = await due_at(shop, payment["payment_id"]) - shop.clock()
            waits.append(round(wait / timedelta(minutes=1)))
            shop.later(seconds=wait.total_seconds() + 1)
        assert waits == [4, 16, 64, 256]
        faults.clear()

        assert not (await shop.reconcile()).failed

        assert (await shop.user())["payment_marks"] == []
        await assert_at_rest(shop, payment["payment_id"])


# Stripe's list of events


async def test_events_that_never_came_are_read_from_stripes_list(shop: Shop) -> None:
    payment = await shop.pay_by_card(amount=50_000)
    # Three events each: more than a page of the list holds.
    for _ in range(40):
        shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=100)

    report = await shop.reconcile(minutes=2)

    assert not report.failed
    assert report.moved["missed_event"] == 121
    assert (await shop.payment(payment["payment_id"]))["refunded_cents"] == 4_000
    inbox = await shop.stored("webhook_events")
    handled = set(shop.services.inbox.event_types)
    made = {e["id"] for e in shop.stripe.events.all() if e["type"] in handled}
    assert {event["_id"] for event in inbox} == made
    assert {event["status"] for event in inbox} == {"processed"}
    assert (await shop.reconcile(minutes=2)).looked_at["missed_event"] == 0


async def test_an_event_that_was_read_from_the_list_is_a_duplicate_when_it_comes_after_all(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    await shop.reconcile(minutes=2)
    (event,) = shop.events("payment_intent.succeeded")
    assert ok(await shop.deliver(event))["result"] == "duplicate"
    assert len(await shop.orders()) == 1


async def test_the_place_in_the_list_moves_only_when_all_events_were_stored() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_by_card()
        shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=100)
        fault = faults.add("insert_one", collection="webhook_events", times=2)

        report = await shop.reconcile(minutes=2)

        assert fault.hits == 2
        assert report.failed["missed_event"] == 2
        assert await cursor(shop) is None
        assert len(await shop.stored("webhook_events")) == 2, "the others were not held up"

        first = shop.clock()
        assert not (await shop.reconcile(minutes=1)).failed
        assert len(await shop.stored("webhook_events")) == 4
        place = await cursor(shop)
        assert place is not None
        assert place > first
        assert (await shop.payment(payment["payment_id"]))["refunded_cents"] == 100


async def test_an_event_that_was_stored_and_failed_does_not_hold_the_list_up(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=100)
    record = await shop.stored_payment(payment["payment_id"])
    payments = shop.databases.payments["payments"]
    await payments.delete_one({"_id": payment["payment_id"]})

    report = await shop.reconcile()

    assert report.failed["missed_event"] > 0
    assert await cursor(shop) is not None
    failed = [e for e in await shop.stored("webhook_events") if e["status"] == "failed"]
    assert {event["last_error"] for event in failed} == {"EventNotYetApplicable"}
    await payments.insert_one(record)
    assert not (await shop.reconcile(minutes=2)).failed
    assert (await shop.payment(payment["payment_id"]))["refunded_cents"] == 100


def _without_currency(data: Document) -> None:
    del data["currency"]


def _with_metadata_of_another_kind(data: Document) -> None:
    data["metadata"] = ["nobody", "knows"]


@pytest.mark.parametrize("spoil", [_without_currency, _with_metadata_of_another_kind])
async def test_an_event_that_cannot_be_read_stops_no_other(
    shop: Shop, spoil: Callable[[Document], None]
) -> None:
    unreadable = await shop.create_intent()
    await shop.confirm_in_browser(unreadable)
    others = [await shop.create_intent() for _ in range(2)]
    for other in others:
        await shop.confirm_in_browser(other)
    spoilt = shop.stripe.events.all(type="payment_intent.succeeded")[0]
    spoil(spoilt["data"]["object"])

    report = await shop.reconcile(minutes=2)

    assert report.failed == {"missed_event": 1}
    assert report.moved["missed_event"] == 2
    payment_ids = [created["payment_id"] for created in (unreadable, *others)]
    assert await statuses(shop, *payment_ids) == ["succeeded"] * 3
    assert len(await shop.stored("orders")) == 3
    inbox = {event["_id"]: event for event in await shop.stored("webhook_events")}
    assert inbox[spoilt["id"]]["status"] == "failed"
    assert sorted(event["status"] for event in inbox.values()) == [
        "failed",
        "processed",
        "processed",
    ]
    assert await cursor(shop) is not None
    again = await shop.reconcile(minutes=2)
    assert again.failed == {"event": 1}, "it is kept, and tried again"


async def test_a_session_paid_in_another_currency_is_read_from_the_list(shop: Shop) -> None:
    """The SDK makes a Decimal of an exchange rate."""
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    (event,) = shop.stripe.events.all(type="checkout.session.completed")
    event["data"]["object"]["currency_conversion"] = {
        "amount_subtotal": 999,
        "amount_total": 999,
        "fx_rate": "0.91",
        "source_currency": "usd",
    }

    report = await shop.reconcile(minutes=2)

    assert not report.failed
    assert await statuses(shop, session["payment_id"]) == ["succeeded"]
    (stored,) = [e for e in await shop.stored("webhook_events") if e["_id"] == event["id"]]
    assert stored["status"] == "processed"
    assert json.loads(stored["payload"])["data"]["object"]["currency_conversion"]["fx_rate"] == (
        "0.91"
    )


async def test_while_the_list_cannot_be_read_everything_else_goes_on(shop: Shop) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    shop.stripe.faults.add("error_before", path="/v1/events", headers=GIVE_UP)

    report = await shop.reconcile(minutes=2)

    assert report.failed == {"event_list": 1}
    assert await cursor(shop) is None
    assert await statuses(shop, created["payment_id"]) == ["succeeded"]
    assert not (await shop.reconcile(minutes=2)).failed
    assert await cursor(shop) is not None


async def test_the_list_is_read_on_from_where_it_was_left_with_some_overlap(shop: Shop) -> None:
    await shop.reconcile()
    left = await cursor(shop)
    assert left is not None
    shop.stripe.requests.clear()

    await shop.reconcile(days=3)

    (asked,) = shop.stripe.requests.matching("GET", "/v1/events")
    since = int(asked.params["created"]["gte"])
    assert since == int((left - timedelta(minutes=10)).timestamp())
    moved = await cursor(shop)
    assert moved is not None
    assert moved - left >= timedelta(days=3)


# One failure stops nothing else


async def test_one_payment_that_fails_stops_no_other(shop: Shop) -> None:
    made = [await shop.create_intent() for _ in range(5)]
    for created in made:
        await shop.confirm_in_browser(created)
    ids = [created["payment_id"] for created in made]
    broken = made[2]
    for path in (f"/v1/payment_intents/{broken['payment_intent_id']}", "/v1/events"):
        shop.stripe.faults.add("error_before", path=path, times=None, headers=GIVE_UP)

    report = await shop.reconcile(minutes=2)

    expected = ["succeeded"] * 5
    expected[2] = "pending"
    assert await statuses(shop, *ids) == expected
    assert report.looked_at["payment"] == 5
    assert report.moved["payment"] == 4
    assert report.failed == {"payment": 1, "event_list": 1}
    assert await shop.metric('reconciler_items_total{kind="payment",outcome="failed"}') == 1
    stored = await shop.stored_payment(broken["payment_id"])
    assert stored["reconcile_attempts"] == 1, "it waits longer before it is tried again"
    assert stored["reconcile_at"] > shop.clock() + timedelta(minutes=3)

    shop.stripe.faults.clear()
    await shop.reconcile(minutes=5)
    assert await statuses(shop, *ids) == ["succeeded"] * 5


async def test_the_log_tells_why_a_payment_failed_in_the_words_of_the_driver() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        await shop.confirm_in_browser(await shop.create_intent())
        faults.add("update_one", collection="payments", times=None)
        with capture_logs() as logs:
            await shop.reconcile(minutes=2)
    failed = [line for line in logs if line["event"] == "reconciler.item_failed"]
    assert {line["error"] for line in failed} == {"database_unavailable"}
    assert {line["cause"] for line in failed} == {
        "AutoReconnect: connection closed (the test was told to)"
    }


async def test_a_mistake_of_ours_with_one_payment_stops_no_other() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        made = [await shop.create_intent() for _ in range(3)]
        for created in made:
            await shop.confirm_in_browser(created)
        shop.stripe.faults.add("error_before", path="/v1/events", headers=GIVE_UP)
        faults.add("insert_one", collection="orders", error=RuntimeError("a mistake"))

        report = await shop.reconcile(minutes=2)

        assert report.failed["payment"] == 1
        assert len(await shop.stored("orders")) == 2
        await shop.reconcile(minutes=5)
        assert len(await shop.stored("orders")) == 3


# The timer


async def test_the_timer_reconciles_by_itself_and_survives_a_run_that_fails() -> None:
    faults = DatabaseFaults()
    settings = {"reconcile_interval_seconds": 0.02, "reconcile_after_seconds": 0.0}
    options = ShopOptions(webhooks=False, settings=settings, connect=faulty(faults))
    async with open_shop(options) as shop:
        mistake = faults.add("update_one", collection="locks", error=RuntimeError("a mistake"))
        away = faults.add("update_one", collection="locks")
        created = await shop.create_intent()
        await shop.confirm_in_browser(created)
        async with asyncio.timeout(10):
            while not await shop.orders():  # noqa: ASYNC110 - asked for as a shopper would
                await asyncio.sleep(0.01)
        assert (mistake.hits, away.hits) == (1, 1)
        assert len(await shop.orders()) == 1


# The command


def _command(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STRIPE_", "MONGODB_", "AUTH_", "ENVIRONMENT"))
    }
    chosen = {
        "MONGODB_URL": "mongomock://",
        "AUTH_MONGODB_URL": "mongomock://",
        # Started elsewhere, because a developer's .env is none of theirs.
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=cwd,
        env=inherited | chosen,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_its_report_and_succeeds(tmp_path: Path) -> None:
    done = _command(tmp_path, "reconcile", "--once", STRIPE_SECRET_KEY="")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"ran": True, "looked_at": {}, "moved": {}, "failed": {}}
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == [
        "reconciler.finished"
    ]


def test_the_command_fails_when_something_is_to_be_tried_again(tmp_path: Path) -> None:
    done = _command(
        tmp_path,
        "reconcile",
        "--once",
        STRIPE_SECRET_KEY="sk_test_suite",
        STRIPE_API_BASE="http://127.0.0.1:9",
        STRIPE_TIMEOUT_SECONDS="0.2",
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == {"event_list": 1}
    assert "sk_test_suite" not in done.stdout + done.stderr


def test_the_command_says_in_one_line_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    done = _command(tmp_path, "reconcile", "--once", MONGODB_URL="http://user:secret@localhost")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: MONGODB_URL")
    assert "secret" not in line


def test_the_command_says_in_one_line_that_the_database_is_away(tmp_path: Path) -> None:
    done = _command(
        tmp_path,
        "reconcile",
        "--once",
        MONGODB_URL="mongodb://127.0.0.1:9/?directConnection=true",
        DATABASE_TIMEOUT_SECONDS="0.2",
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: The payments database did not answer; please try again."
    ]
    assert "Traceback" not in done.stderr


async def test_the_command_has_a_code_of_its_own_for_another_instance_at_work(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    until = shop.clock() + timedelta(minutes=5)
    await shop.databases.payments["locks"].insert_one(
        {"_id": "reconciler", "owner": "reconciler_elsewhere", "until": until}
    )
    capsys.readouterr()

    assert await _run_once(shop.services) == 2

    assert json.loads(capsys.readouterr().out)["ran"] is False
