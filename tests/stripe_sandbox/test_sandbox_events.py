"""https://docs.stripe.com/api/events"""

import time
from typing import Any

import pytest
import stripe


async def test_an_event_names_the_request_that_caused_it(rig: Any) -> None:
    intent = await rig.client.v1.payment_intents.create_async(
        {"amount": 1000, "currency": "usd"}, {"idempotency_key": "order-7"}
    )
    [event] = (await rig.client.v1.events.list_async()).data
    assert event.request.to_dict() == {
        "id": intent.last_response.request_id,
        "idempotency_key": "order-7",
    }
    assert event.api_version == "2026-10-28.endive"
    assert event.id.startswith("evt_3")
    assert (event.livemode, event.data.object.id) == (False, intent.id)


async def test_an_event_is_a_snapshot_with_ids_in_place_of_objects(rig: Any) -> None:
    intent = await rig.intent(metadata={"v": "1"}, expand=["latest_charge"])
    await rig.client.v1.payment_intents.update_async(intent.id, {"metadata": {"v": "2"}})
    event = rig.sandbox.events.all("payment_intent.succeeded")[0]
    snapshot = event["data"]["object"]
    assert snapshot["metadata"] == {"v": "1"}
    assert snapshot["latest_charge"] == intent.latest_charge.id
    created = rig.sandbox.events.all("payment_intent.created")[0]["data"]["object"]
    assert (created["status"], created["latest_charge"]) == ("requires_confirmation", None)


async def test_only_updates_tell_previous_attributes(rig: Any) -> None:
    intent = await rig.intent()
    rig.sandbox.clock.advance(700)
    rig.sandbox.dashboard_refund(payment_intent=intent.id, amount=100)
    with_previous = {
        event["type"]
        for event in rig.sandbox.events.all()
        if "previous_attributes" in event["data"]
    }
    assert with_previous == {
        "charge.updated",
        "charge.refunded",
        "refund.updated",
        "charge.refund.updated",
    }


async def test_events_are_listed_newest_first_and_by_type(rig: Any) -> None:
    for _ in range(2):
        await rig.intent()
    listing = rig.client.v1.events.list_async
    every = (await listing()).data
    assert [event.type for event in every] == list(reversed(rig.sandbox.events.types()))
    one = await listing({"type": "charge.succeeded"})
    assert [event.type for event in one.data] == ["charge.succeeded"] * 2
    two = await listing({"types": ["charge.succeeded", "payment_intent.succeeded"]})
    assert len(two.data) == 4
    family = await listing({"type": "payment_intent.*"})
    assert {event.type for event in family.data} == {
        "payment_intent.created",
        "payment_intent.succeeded",
    }
    with pytest.raises(stripe.InvalidRequestError):
        await listing({"type": "charge.succeeded", "types": ["charge.failed"]})


async def test_events_are_found_by_creation_time(rig: Any) -> None:
    await rig.intent()
    rig.sandbox.clock.advance(400)
    await rig.intent()
    middle = int(time.time()) + 200
    listing = rig.client.v1.events.list_async
    assert len((await listing({"created": {"gt": middle}})).data) == 3
    assert len((await listing({"created": {"lte": middle}})).data) == 3
    assert len((await listing({"created": {"gte": middle, "lt": middle + 10}})).data) == 0


async def test_undelivered_events_can_be_listed(rig: Any) -> None:
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    rig.sandbox.webhooks.pause()
    later = await rig.client.v1.payment_intents.create_async({"amount": 100, "currency": "usd"})
    listing = rig.client.v1.events.list_async
    undelivered = (await listing({"delivery_success": False})).data
    assert [event.data.object.id for event in undelivered] == [later.id]
    assert undelivered[0].pending_webhooks == 1
    assert len((await listing({"delivery_success": True})).data) == 3


async def test_events_are_kept_for_thirty_days(rig: Any) -> None:
    await rig.intent()
    [event, *_] = rig.sandbox.events.all()
    rig.sandbox.clock.advance(30 * 24 * 3600 - 60)
    assert (await rig.client.v1.events.retrieve_async(event["id"])).id == event["id"]
    rig.sandbox.clock.advance(120)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.events.retrieve_async(event["id"])
    assert refused.value.http_status == 404


async def test_a_dispute_is_told_when_opened_and_when_closed(rig: Any) -> None:
    intent = await rig.intent()
    seen = len(rig.sandbox.events.all())
    opened = rig.sandbox.open_dispute(charge=intent.latest_charge, reason="duplicate", amount=600)
    assert (opened["status"], opened["amount"]) == ("needs_response", 600)
    assert rig.data(intent.latest_charge)["disputed"] is True
    closed = rig.sandbox.close_dispute(opened["id"], "won")
    assert closed["status"] == "won"
    assert rig.sandbox.events.types()[seen:] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
        "charge.dispute.closed",
    ]
    found = await rig.client.v1.disputes.list_async({"payment_intent": intent.id})
    assert [dispute.id for dispute in found.data] == [opened["id"]]
    assert (await rig.client.v1.disputes.retrieve_async(opened["id"])).reason == "duplicate"


async def test_a_dispute_card_is_disputed_at_once(rig: Any) -> None:
    intent = await rig.intent("pm_card_createDispute")
    assert intent.status == "succeeded"
    assert rig.data(intent.latest_charge)["disputed"] is True
    assert "charge.dispute.created" in rig.sandbox.events.types()


async def test_the_balance_adds_up(rig: Any) -> None:
    first = await rig.intent(capture_method="automatic")
    await rig.intent("pm_card_bypassPending", capture_method="automatic")
    rig.sandbox.dashboard_refund(payment_intent=first.id, amount=100)

    async def sums() -> tuple[int, int]:
        balance = await rig.client.v1.balance.retrieve_async()
        return balance.available[0].amount, balance.pending[0].amount

    assert await sums() == (941, 841)
    rig.sandbox.clock.advance(3 * 24 * 3600)
    assert await sums() == (1782, 0)
