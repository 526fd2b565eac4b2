"""Disputes and early fraud warnings: as Stripe has them now, recorded on the payment for the
operator; the order stays as it is.
"""

import asyncio
import json
from itertools import permutations
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.domain.issuer_reports import Dispute
from app.gateways.stripe import StripeGateway
from tests.support.shop import GIVE_UP, Shop, ok, refused

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


async def submit_evidence(shop: Shop, dispute_id: str, text: str) -> None:
    async with httpx.AsyncClient(base_url=shop.settings.stripe_api_base) as dashboard:
        key = shop.settings.stripe_secret_key.get_secret_value()
        answer = await dashboard.post(
            f"/v1/disputes/{dispute_id}",
            data={"evidence[uncategorized_text]": text, "submit": "true"},
            headers={"Authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 200, answer.text


async def live_through(shop: Shop, payment: Document) -> list[Document]:
    """A dispute from its inquiry to its end; the events of it, the oldest first."""
    opened = shop.stripe.open_dispute(
        payment_intent=payment["stripe_payment_intent_id"], inquiry=True
    )
    await submit_evidence(shop, opened["id"], "escalate_inquiry_evidence")
    await submit_evidence(shop, opened["id"], "a receipt")
    shop.stripe.close_dispute(opened["id"], "won")
    events = [
        json.loads(json.dumps(event))
        for event in shop.stripe.events.all()
        if event["type"].startswith("charge.dispute.")
    ]
    assert {event["type"].removeprefix("charge.dispute.") for event in events} == {
        "created",
        "updated",
        "closed",
        "funds_withdrawn",
        "funds_reinstated",
    }
    return events


async def test_each_state_of_a_dispute_is_recorded_and_logged_when_it_comes(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    payment_id = payment["payment_id"]
    with capture_logs() as logs:
        opened = shop.stripe.open_dispute(
            payment_intent=payment["stripe_payment_intent_id"], inquiry=True
        )
        await shop.stripe.webhooks.drain()
        await assert_disputed(shop, payment_id, "warning_needs_response")

        await submit_evidence(shop, opened["id"], "escalate_inquiry_evidence")
        await shop.stripe.webhooks.drain()
        await assert_disputed(shop, payment_id, "needs_response")

        await submit_evidence(shop, opened["id"], "a receipt")
        await shop.stripe.webhooks.drain()
        await assert_disputed(shop, payment_id, "under_review")

        shop.stripe.close_dispute(opened["id"], "lost")
        await shop.stripe.webhooks.drain()
        await assert_disputed(shop, payment_id, "lost")

    moves = [line for line in logs if line["event"] == "dispute.status_changed"]
    assert [(line["from_status"], line["to_status"]) for line in moves] == [
        ("warning_needs_response", "needs_response"),
        ("needs_response", "under_review"),
        ("under_review", "lost"),
    ]
    assert len([line for line in logs if line["event"] == "payment.disputed"]) == 1


@pytest.mark.shop(webhooks=False)
@pytest.mark.parametrize("place", range(6))
async def test_any_one_event_of_a_dispute_tells_its_present_state(shop: Shop, place: int) -> None:
    payment = await shop.pay_by_card()
    events = await live_through(shop, payment)

    assert ok(await shop.deliver(events[place]))["result"] == "processed"

    await assert_disputed(shop, payment["payment_id"], "won")


@pytest.mark.shop(webhooks=False)
async def test_old_events_of_a_dispute_take_nothing_back(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    events = await live_through(shop, payment)

    for event in reversed(events):
        ok(await shop.deliver(event))
        await assert_disputed(shop, payment["payment_id"], "won")


@pytest.mark.shop(webhooks=False)
async def test_stripe_is_asked_only_when_an_event_tells_something_new(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    for event in (
        *shop.events("charge.dispute.created"),
        *shop.events("charge.dispute.funds_withdrawn"),
    ):
        ok(await shop.deliver(event))
    asked = [r for r in shop.stripe.requests if r.path.startswith("/v1/disputes/")]
    assert len(asked) == 1


@pytest.mark.shop(webhooks=False)
async def test_a_worker_that_was_slow_to_hear_stripe_does_not_overwrite_what_came_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await shop.pay_by_card()
    opened = shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    (created,) = shop.events("charge.dispute.created")
    heard, may_go_on = asyncio.Event(), asyncio.Event()
    whole = StripeGateway.retrieve_dispute

    async def retrieve(self: StripeGateway, stripe_dispute_id: str) -> Dispute:
        answer = await whole(self, stripe_dispute_id)
        if not heard.is_set():
            heard.set()
            await may_go_on.wait()
        return answer

    monkeypatch.setattr(StripeGateway, "retrieve_dispute", retrieve)
    first = asyncio.create_task(shop.deliver(created))
    await asyncio.wait_for(heard.wait(), 5)

    shop.stripe.close_dispute(opened["id"], "lost")
    (closed,) = shop.events("charge.dispute.closed")
    ok(await shop.deliver(closed))
    await assert_disputed(shop, payment["payment_id"], "lost")
    may_go_on.set()
    ok(await first)

    await assert_disputed(shop, payment["payment_id"], "lost")


@pytest.mark.shop(webhooks=False)
async def test_a_dispute_that_stripe_does_not_have_is_what_its_first_event_says(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    (event,) = shop.events("charge.dispute.created")
    gone = {**event, "data": {"object": {**event["data"]["object"], "id": "du_gone"}}}

    assert ok(await shop.deliver(gone))["result"] == "processed"
    await assert_disputed(shop, payment["payment_id"], "needs_response")

    gone["data"]["object"]["status"] = "won"
    assert ok(await shop.deliver({**gone, "id": "evt_later"}))["result"] == "processed"
    await assert_disputed(shop, payment["payment_id"], "needs_response")


@pytest.mark.shop(webhooks=False)
async def test_a_dispute_that_stripe_cannot_be_asked_about_is_recorded_and_asked_again(
    shop: Shop,
) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.open_dispute(payment_intent=payment["stripe_payment_intent_id"])
    (event,) = shop.events("charge.dispute.created")
    shop.stripe.faults.add("error_before", path="/v1/disputes/", headers=GIVE_UP)

    refused(await shop.deliver(event), 502, "stripe_error")
    await assert_disputed(shop, payment["payment_id"], "needs_response")

    assert ok(await shop.deliver(event))["result"] == "processed"
    await assert_disputed(shop, payment["payment_id"], "needs_response")


async def test_an_early_fraud_warning_is_recorded_shown_and_logged_once(shop: Shop) -> None:
    with capture_logs() as logs:
        payment = await shop.pay_by_card(payment_method="pm_card_createIssuerFraudRecord")
        (warning,) = payment["fraud_warnings"]
        assert warning["warning_id"].startswith("issfr_")
        assert warning["actionable"] is True
        assert warning["fraud_type"]
        assert warning["created_at"].endswith("Z")

        ok(await shop.post("/refund", {"payment_id": payment["payment_id"]}))
        await shop.stripe.webhooks.drain()

    refunded = await shop.payment(payment["payment_id"])
    assert refunded["status"] == "refunded"
    assert refunded["fraud_warnings"] == [{**warning, "actionable": False}]
    told = [line for line in logs if line["event"] == "payment.fraud_warning"]
    assert [(line["log_level"], line["stripe_fraud_warning_id"]) for line in told] == [
        ("warning", warning["warning_id"])
    ]


@pytest.mark.shop(webhooks=False)
@pytest.mark.parametrize("kind", ["null", "absent"])
async def test_a_fraud_warning_without_a_payment_intent_is_not_ours(shop: Shop, kind: str) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_createIssuerFraudRecord")
    (event,) = shop.events("radar.early_fraud_warning.created")
    if kind == "null":
        event["data"]["object"]["payment_intent"] = None
    else:
        del event["data"]["object"]["payment_intent"]

    assert ok(await shop.deliver(event))["result"] == "ignored"
    assert (await shop.payment(payment["payment_id"]))["fraud_warnings"] == []


async def test_a_payment_of_an_older_version_is_read_without_its_fraud_warnings(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    await shop.databases.payments["payments"].update_one(
        {"_id": payment["payment_id"]}, {"$unset": {"fraud_warnings": ""}}
    )
    assert (await shop.payment(payment["payment_id"]))["fraud_warnings"] == []


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
