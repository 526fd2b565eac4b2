"""https://docs.stripe.com/refunds"""

import asyncio
from typing import Any

import pytest
import stripe


async def refund(rig: Any, **params: Any) -> Any:
    return await rig.client.v1.refunds.create_async(params)


async def test_without_an_amount_the_whole_rest_is_refunded(rig: Any) -> None:
    intent = await rig.intent()
    await refund(rig, payment_intent=intent.id, amount=300)
    rest = await refund(rig, payment_intent=intent.id, metadata={"why": "because"})
    assert (rest.status, rest.amount, rest.charge) == ("succeeded", 700, intent.latest_charge)
    assert rest.metadata.to_dict() == {"why": "because"}
    charge = rig.data(intent.latest_charge)
    assert (charge["refunded"], charge["amount_refunded"]) == (True, 1000)
    assert rig.data(intent.id)["status"] == "succeeded"


async def test_a_partial_refund_leaves_the_charge_not_refunded(rig: Any) -> None:
    intent = await rig.intent()
    await refund(rig, charge=intent.latest_charge, amount=1, reason="requested_by_customer")
    charge = rig.data(intent.latest_charge)
    assert (charge["refunded"], charge["amount_refunded"]) == (False, 1)


async def test_events_come_in_the_observed_order_also_for_a_partial_refund(rig: Any) -> None:
    intent = await rig.intent()
    seen = len(rig.sandbox.events.all())
    await refund(rig, payment_intent=intent.id, amount=400)
    assert rig.sandbox.events.types()[seen:] == [
        "refund.created",
        "charge.refunded",
        "refund.updated",
        "charge.refund.updated",
    ]
    event = rig.sandbox.events.all("charge.refunded")[0]
    assert event["data"]["object"]["amount_refunded"] == 400
    assert event["data"]["previous_attributes"] == {"amount_refunded": 0}


async def test_no_more_is_refunded_than_was_paid(rig: Any) -> None:
    intent = await rig.intent()
    await refund(rig, payment_intent=intent.id, amount=600)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refund(rig, payment_intent=intent.id, amount=600)
    assert (refused.value.code, refused.value.param) == (None, "amount")
    assert (
        refused.value.user_message
        == "Refund amount ($6.00) is greater than unrefunded amount on charge ($4.00)"
    )
    assert rig.data(intent.latest_charge)["amount_refunded"] == 600


async def test_a_refunded_charge_is_not_refunded_again(rig: Any) -> None:
    intent = await rig.intent()
    await refund(rig, payment_intent=intent.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refund(rig, payment_intent=intent.id)
    assert refused.value.code == "charge_already_refunded"


async def test_concurrent_partial_refunds_never_exceed_the_payment(rig: Any) -> None:
    intent = await rig.intent()
    outcomes = await asyncio.gather(
        *(refund(rig, payment_intent=intent.id, amount=300) for _ in range(8)),
        return_exceptions=True,
    )
    made = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(made) == 3
    assert rig.data(intent.latest_charge)["amount_refunded"] == 900


@pytest.mark.parametrize(
    ("method", "state"),
    [("pm_card_visa", "new"), ("pm_usBankAccount", "processing"), ("pm_card_visa", "held")],
)
async def test_what_was_not_paid_is_not_refunded(rig: Any, method: str, state: str) -> None:
    params: dict[str, dict[str, Any]] = {
        "new": {"confirm": False, "return_url": None},
        "held": {"capture_method": "manual"},
    }
    intent = await rig.intent(method, **params.get(state, {}))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refund(rig, payment_intent=intent.id)
    assert "does not have a successful charge to refund" in str(refused.value)


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({}, None, None),
        ({"payment_intent": "pi_unknown"}, "resource_missing", "payment_intent"),
        ({"charge": "ch_unknown"}, "resource_missing", "charge"),
        ({"payment_intent": "pi_1", "amount": 0}, "parameter_invalid_integer", "amount"),
        ({"payment_intent": "pi_1", "amount": -5}, "parameter_invalid_integer", "amount"),
        ({"payment_intent": "pi_1", "reason": "too heavy"}, None, "reason"),
        ({"payment_intent": "pi_1", "charge": "ch_1"}, None, "charge"),
    ],
)
async def test_invalid_refunds_are_refused(
    rig: Any, params: dict[str, Any], code: str | None, param: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refund(rig, **params)
    assert (refused.value.code, refused.value.param) == (code, param)


async def test_metadata_can_be_updated_and_nothing_else(rig: Any) -> None:
    intent = await rig.intent()
    made = await refund(rig, payment_intent=intent.id, metadata={"a": "1"})
    updated = await rig.client.v1.refunds.update_async(made.id, {"metadata": {"b": "2"}})
    assert updated.metadata.to_dict() == {"a": "1", "b": "2"}
    event = rig.sandbox.events.all("refund.updated")[-1]
    assert event["data"]["previous_attributes"] == {"metadata": {"b": None}}
    answer = await rig.http.post(f"/v1/refunds/{made.id}", data={"amount": "1"})
    assert answer.json()["error"]["code"] == "parameter_unknown"


async def test_a_succeeded_card_refund_is_not_canceled(rig: Any) -> None:
    intent = await rig.intent()
    made = await refund(rig, payment_intent=intent.id)
    with pytest.raises(stripe.InvalidRequestError):
        await rig.client.v1.refunds.cancel_async(made.id)
    assert rig.data(made.id)["status"] == "succeeded"


async def test_a_pending_refund_succeeds_later(start: Any) -> None:
    rig = await start(refund_settle_seconds=100)
    intent = await rig.intent("pm_card_pendingRefund")
    made = await refund(rig, payment_intent=intent.id)
    assert made.status == "pending"
    seen = len(rig.sandbox.events.all())
    rig.sandbox.clock.advance(100)
    assert rig.data(made.id)["status"] == "succeeded"
    assert rig.sandbox.events.types()[seen:] == ["refund.updated", "charge.refund.updated"]
    event = rig.sandbox.events.all("refund.updated")[-1]
    assert event["data"]["previous_attributes"] == {"status": "pending"}


async def test_a_refund_can_fail_after_it_succeeded(start: Any) -> None:
    rig = await start(refund_settle_seconds=100)
    intent = await rig.intent("pm_card_refundFail")
    made = await refund(rig, payment_intent=intent.id)
    assert made.status == "succeeded"
    seen = len(rig.sandbox.events.all())
    rig.sandbox.clock.advance(100)
    failed = rig.data(made.id)
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert rig.sandbox.events.types()[seen:] == [
        "refund.failed",
        "refund.updated",
        "charge.refund.updated",
        "charge.updated",
    ]
    charge = rig.data(intent.latest_charge)
    assert (charge["refunded"], charge["amount_refunded"]) == (False, 0)
    again = await refund(rig, payment_intent=intent.id)
    assert again.amount == 1000


async def test_refunds_change_their_mind_when_told(rig: Any) -> None:
    intent = await rig.intent("pm_card_pendingRefund")
    first = await refund(rig, payment_intent=intent.id, amount=100)
    second = await refund(rig, payment_intent=intent.id, amount=100)
    assert rig.sandbox.succeed_refund(first.id)["status"] == "succeeded"
    assert rig.sandbox.fail_refund(second.id, "declined")["failure_reason"] == "declined"
    assert rig.data(intent.latest_charge)["amount_refunded"] == 100


async def test_a_dashboard_refund_has_no_request_and_no_metadata(rig: Any) -> None:
    intent = await rig.intent(metadata={"payment_id": "p1"})
    made = rig.sandbox.dashboard_refund(payment_intent=intent.id, amount=250)
    assert (made["amount"], made["metadata"]) == (250, {})
    event = rig.sandbox.events.all("refund.created")[0]
    assert event["request"] == {"id": None, "idempotency_key": None}
    assert len(rig.sandbox.requests.matching("POST", "/v1/refunds")) == 0


async def test_refunds_are_listed_by_charge_and_by_intent_and_expanded(rig: Any) -> None:
    intent, other = await rig.intent(), await rig.intent()
    made = [await refund(rig, payment_intent=intent.id, amount=n) for n in (1, 2)]
    await refund(rig, payment_intent=other.id)
    newest_first = [refund.id for refund in reversed(made)]
    listing = rig.client.v1.refunds.list_async
    for filters in ({"charge": intent.latest_charge}, {"payment_intent": intent.id}):
        assert [found.id for found in (await listing(filters)).data] == newest_first
    both = {"charge": other.latest_charge, "payment_intent": intent.id}
    assert (await listing(both)).data == []
    charge = await rig.client.v1.charges.retrieve_async(
        intent.latest_charge, {"expand": ["refunds", "payment_intent"]}
    )
    assert [found.id for found in charge.refunds.data] == newest_first
    assert charge.payment_intent.id == intent.id


@pytest.mark.parametrize(("status", "refundable"), [("won", True), ("lost", False)])
async def test_a_disputed_charge_is_refundable_only_once_won(
    rig: Any, status: str, refundable: bool
) -> None:
    intent = await rig.intent()
    dispute = rig.sandbox.open_dispute(payment_intent=intent.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await refund(rig, payment_intent=intent.id)
    assert refused.value.code == "charge_disputed"
    rig.sandbox.close_dispute(dispute["id"], status)
    if refundable:
        assert (await refund(rig, payment_intent=intent.id)).status == "succeeded"
    else:
        with pytest.raises(stripe.InvalidRequestError):
            await refund(rig, payment_intent=intent.id)
