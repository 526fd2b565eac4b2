"""Disputes: recorded on the payment for whoever looks after it; the order stays as it is."""

from itertools import permutations
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.shop import Shop, ok

Document = dict[str, Any]


async def assert_disputed(shop: Shop, payment_id: str, *statuses: str) -> list[Document]:
    payment = await shop.payment(payment_id)
    assert [dispute["status"] for dispute in payment["disputes"]] == list(statuses)
    assert payment["status"] == "succeeded"
    assert [order["status"] for order in await shop.orders()] == ["paid"]
    stored = await shop.stored_payment(payment_id)
    assert [dispute["status"] for dispute in stored["disputes"]] == list(statuses)
    assert "reconcile_at" not in stored
    disputes: list[Document] = payment["disputes"]
    return disputes


async def test_a_dispute_is_recorded_and_shown_until_it_is_closed(shop: Shop) -> None:
    payment = await shop.pay_by_card()

    with capture_logs() as logs:
        opened = shop.stripe.open_dispute(
            payment_intent=payment["stripe_payment_intent_id"],
            reason="product_not_received",
            amount=500,
        )
        await shop.stripe.webhooks.drain()

    (dispute,) = await assert_disputed(shop, payment["payment_id"], "needs_response")
    assert dispute["dispute_id"] == opened["id"]
    assert (dispute["reason"], dispute["amount_cents"]) == ("product_not_received", 500)
    warnings = [line for line in logs if line["event"] == "payment.disputed"]
    assert [(line["log_level"], line["stripe_dispute_id"]) for line in warnings] == [
        ("warning", opened["id"])
    ]

    shop.stripe.close_dispute(opened["id"], "lost")
    await shop.stripe.webhooks.drain()
    await assert_disputed(shop, payment["payment_id"], "lost")


async def test_a_dispute_that_comes_with_the_payment_is_recorded(shop: Shop) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_createDispute")
    (dispute,) = await assert_disputed(shop, payment["payment_id"], "needs_response")
    assert (dispute["reason"], dispute["amount_cents"]) == ("fraudulent", 999)


@pytest.mark.shop(webhooks=False)
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_a_dispute_ends_closed_in_whatever_order_its_events_arrive(
    shop: Shop, order: tuple[int, ...]
) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    opened = shop.stripe.open_dispute(payment_intent=created["payment_intent_id"])
    shop.stripe.close_dispute(opened["id"], "won")
    events = [
        *shop.events("payment_intent.succeeded"),
        *shop.events("charge.dispute.created"),
        *shop.events("charge.dispute.closed"),
    ]

    for place in order:
        assert ok(await shop.deliver(events[place]))["result"] == "processed"

    await assert_disputed(shop, created["payment_id"], "won")


@pytest.mark.shop(webhooks=False)
async def test_events_of_a_dispute_delivered_twice_record_it_once(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    (event,) = shop.events("charge.dispute.created")
    ok(await shop.deliver(event))

    # Stripe may also make two events of one change.
    assert ok(await shop.deliver({**event, "id": "evt_twin"}))["result"] == "processed"

    await assert_disputed(shop, payment["payment_id"], "needs_response")


@pytest.mark.shop(webhooks=False)
async def test_a_dispute_finds_its_payment_before_stripes_id_was_recorded(shop: Shop) -> None:
    session = await shop.create_session()
    paid = shop.stripe.pay_session(session["session_id"])
    assert paid.payment_intent is not None
    shop.stripe.open_dispute(payment_intent=paid.payment_intent["id"])
    (event,) = shop.events("charge.dispute.created")

    assert ok(await shop.deliver(event))["result"] == "processed"

    await assert_disputed(shop, session["payment_id"], "needs_response")


async def test_an_inquiry_leaves_the_payment_refundable(shop: Shop) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_createDisputeInquiry")
    await assert_disputed(shop, payment["payment_id"], "warning_needs_response")

    reply = ok(await shop.post("/refund", {"payment_id": payment["payment_id"]}))

    assert reply["status"] == "succeeded"
    await shop.stripe.webhooks.drain()
    assert (await shop.payment(payment["payment_id"]))["status"] == "refunded"


async def test_a_dispute_that_was_won_leaves_the_payment_refundable(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    opened = shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    shop.stripe.close_dispute(opened["id"], "won")
    await shop.stripe.webhooks.drain()

    reply = ok(await shop.post("/refund", {"payment_id": payment["payment_id"]}))

    assert (reply["amount_cents"], reply["status"]) == (999, "succeeded")
