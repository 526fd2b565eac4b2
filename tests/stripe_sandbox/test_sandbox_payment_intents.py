"""https://docs.stripe.com/payments/paymentintents/lifecycle"""

from typing import Any

import pytest
import stripe

SUCCESS = ["charge.succeeded", "payment_intent.succeeded", "payment_intent.created"]
DECLINE = ["charge.failed", "payment_intent.created", "payment_intent.payment_failed"]


async def create(rig: Any, **params: Any) -> Any:
    return await rig.client.v1.payment_intents.create_async(
        {"amount": 1000, "currency": "usd", **params}
    )


async def test_without_a_method_it_requires_one(rig: Any) -> None:
    intent = await create(rig)
    assert intent.status == "requires_payment_method"
    assert (intent.amount_received, intent.latest_charge, intent.payment_method) == (0, None, None)
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert intent.capture_method == "automatic_async"
    assert intent.automatic_payment_methods.to_dict() == {
        "allow_redirects": "always",
        "enabled": True,
    }
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_with_a_method_it_requires_confirmation(rig: Any) -> None:
    intent = await create(rig, payment_method="pm_card_visa")
    assert intent.status == "requires_confirmation"
    assert intent.payment_method.startswith("pm_1")
    assert intent.payment_method != "pm_card_visa"


async def test_confirmed_at_creation_it_succeeds_and_is_announced_last(rig: Any) -> None:
    intent = await rig.intent(metadata={"order": "7"}, expand=["latest_charge"])
    assert (intent.status, intent.amount_received) == ("succeeded", 1000)
    charge = intent.latest_charge
    assert (charge.status, charge.paid, charge.captured) == ("succeeded", True, True)
    assert charge.metadata.to_dict() == {"order": "7"}
    assert rig.sandbox.events.types() == SUCCESS


async def test_confirmed_later_it_was_announced_at_creation(rig: Any) -> None:
    intent = await create(rig)
    confirmed = await rig.client.v1.payment_intents.confirm_async(
        intent.id, {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
    )
    assert confirmed.status == "succeeded"
    assert rig.sandbox.events.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


async def test_the_balance_transaction_follows_an_asynchronous_capture(start: Any) -> None:
    rig = await start(balance_transaction_seconds=60)
    intent = await rig.intent(expand=["latest_charge"])
    assert intent.latest_charge.balance_transaction is None
    rig.sandbox.clock.advance(60)
    assert rig.sandbox.events.types() == [*SUCCESS, "charge.updated"]
    update = rig.sandbox.events.all("charge.updated")[0]
    assert update["data"]["previous_attributes"] == {"balance_transaction": None}
    charge = await rig.client.v1.charges.retrieve_async(
        intent.latest_charge.id, {"expand": ["balance_transaction"]}
    )
    booked = charge.balance_transaction
    assert (booked.amount, booked.fee, booked.net) == (1000, 59, 941)


async def test_a_synchronous_capture_books_at_once(rig: Any) -> None:
    intent = await rig.intent(capture_method="automatic", expand=["latest_charge"])
    assert intent.latest_charge.balance_transaction.startswith("txn_")


async def test_metadata_of_the_charge_does_not_follow_later_edits(rig: Any) -> None:
    intent = await rig.intent(metadata={"a": "1"})
    await rig.client.v1.payment_intents.update_async(intent.id, {"metadata": {"a": "2"}})
    assert rig.data(intent.latest_charge)["metadata"] == {"a": "1"}


async def test_metadata_is_merged_unset_and_cleared(rig: Any) -> None:
    intent = await create(rig, metadata={"a": "1", "b": "2"})
    update = rig.client.v1.payment_intents.update_async
    merged = await update(intent.id, {"metadata": {"b": "", "c": "3"}})
    assert merged.metadata.to_dict() == {"a": "1", "c": "3"}
    cleared = await update(intent.id, {"metadata": ""})
    assert cleared.metadata.to_dict() == {}


async def test_metadata_has_room_for_fifty_keys_over_several_updates(rig: Any) -> None:
    intent = await create(rig, metadata={f"k{n}": "v" for n in range(50)})
    update = rig.client.v1.payment_intents.update_async
    with pytest.raises(stripe.InvalidRequestError):
        await update(intent.id, {"metadata": {"another": "v"}})
    swapped = await update(intent.id, {"metadata": {"k0": "", "another": "v"}})
    assert len(swapped.metadata.to_dict()) == 50


async def test_manual_capture_holds_then_takes_part_and_releases_the_rest(rig: Any) -> None:
    intent = await rig.intent(capture_method="manual")
    assert (intent.status, intent.amount_capturable, intent.amount_received) == (
        "requires_capture",
        1000,
        0,
    )
    assert not rig.data(intent.latest_charge)["captured"]
    captured = await rig.client.v1.payment_intents.capture_async(
        intent.id, {"amount_to_capture": 400}
    )
    assert (captured.status, captured.amount_capturable, captured.amount_received) == (
        "succeeded",
        0,
        400,
    )
    charge = rig.data(intent.latest_charge)
    assert (charge["captured"], charge["amount_captured"], charge["amount_refunded"]) == (
        True,
        400,
        600,
    )
    assert rig.sandbox.events.types() == [
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.created",
        "charge.captured",
        "payment_intent.succeeded",
    ]


async def test_no_more_is_captured_than_is_held(rig: Any) -> None:
    intent = await rig.intent(capture_method="manual")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1001})
    assert refused.value.code == "amount_too_large"


async def test_canceling_a_hold_gives_it_back(rig: Any) -> None:
    intent = await rig.intent(capture_method="manual")
    canceled = await rig.client.v1.payment_intents.cancel_async(
        intent.id, {"cancellation_reason": "abandoned"}
    )
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    assert canceled.canceled_at >= intent.created
    assert rig.data(intent.latest_charge)["refunded"] is True
    assert rig.sandbox.events.types()[-2:] == ["charge.refunded", "payment_intent.canceled"]


@pytest.mark.parametrize("method", [None, "pm_card_visa"])
async def test_an_unpaid_intent_can_be_canceled(rig: Any, method: str | None) -> None:
    intent = await create(rig, **({"payment_method": method} if method else {}))
    canceled = await rig.client.v1.payment_intents.cancel_async(intent.id)
    assert canceled.status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.cancel_async(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("confirm", "because it has already succeeded after being previously confirmed."),
        ("cancel", "because it has a status of succeeded. Only a PaymentIntent with one of"),
        ("capture", "because it has a status of succeeded."),
    ],
)
async def test_success_is_final(rig: Any, action: str, message: str) -> None:
    intent = await rig.intent()
    before = len(rig.sandbox.events.all())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await getattr(rig.client.v1.payment_intents, f"{action}_async")(intent.id)
    assert (refused.value.http_status, refused.value.code) == (
        400,
        "payment_intent_unexpected_state",
    )
    assert message in str(refused.value)
    error: Any = refused.value.error
    assert error.payment_intent.id == intent.id
    assert len(rig.sandbox.events.all()) == before


async def test_the_amount_of_a_paid_intent_is_fixed_but_not_its_description(rig: Any) -> None:
    intent = await rig.intent()
    update = rig.client.v1.payment_intents.update_async
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await update(intent.id, {"amount": 2000})
    assert refused.value.code == "payment_intent_unexpected_state"
    assert (await update(intent.id, {"description": "books"})).description == "books"


async def test_the_amount_of_an_open_intent_can_change_within_limits(rig: Any) -> None:
    intent = await create(rig)
    update = rig.client.v1.payment_intents.update_async
    assert (await update(intent.id, {"amount": 2500})).amount == 2500
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await update(intent.id, {"amount": 1})
    assert refused.value.code == "amount_too_small"
    assert rig.data(intent.id)["amount"] == 2500


async def test_confirming_without_a_method_is_refused(rig: Any) -> None:
    intent = await create(rig)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.confirm_async(
            intent.id, {"return_url": "https://shop.example"}
        )
    assert refused.value.code == "payment_intent_unexpected_state"
    assert "missing a payment method" in str(refused.value)


async def test_confirming_needs_a_return_url_while_redirects_are_possible(rig: Any) -> None:
    intent = await create(rig, payment_method="pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.confirm_async(intent.id)
    assert refused.value.code is None
    assert "you must provide a `return_url`" in str(refused.value)
    error: Any = refused.value.error
    assert error.payment_intent.id == intent.id
    assert rig.data(intent.id)["status"] == "requires_confirmation"


@pytest.mark.parametrize(
    "waiver",
    [
        {"off_session": True},
        {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}},
        {"automatic_payment_methods": {"enabled": False}},
    ],
)
async def test_the_return_url_is_waived_off_session_and_without_redirects(
    rig: Any, waiver: dict[str, Any]
) -> None:
    intent = await create(rig, payment_method="pm_card_visa", confirm=True, **waiver)
    assert intent.status == "succeeded"


@pytest.mark.parametrize(
    ("ids", "code", "decline_code"),
    [
        (("visa_chargeDeclined", "chargeDeclined"), "card_declined", "generic_decline"),
        (
            ("visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds"),
            "card_declined",
            "insufficient_funds",
        ),
        (
            ("visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"),
            "card_declined",
            "lost_card",
        ),
        (
            ("visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"),
            "card_declined",
            "stolen_card",
        ),
        (
            (
                "visa_chargeDeclinedVelocityLimitExceeded",
                "chargeDeclinedVelocityLimitExceeded",
            ),
            "card_declined",
            "card_velocity_exceeded",
        ),
        (("chargeDeclinedExpiredCard",), "expired_card", None),
        (("chargeDeclinedIncorrectCvc",), "incorrect_cvc", None),
        (("chargeDeclinedProcessingError",), "processing_error", None),
        (("chargeCustomerFail",), "card_declined", "generic_decline"),
        (("radarBlock",), "card_declined", "fraudulent"),
    ],
)
async def test_declines_are_402_and_leave_an_intent_and_a_failed_charge(
    rig: Any, ids: tuple[str, ...], code: str, decline_code: str | None
) -> None:
    for id in ids:
        seen = len(rig.sandbox.events.all())
        with pytest.raises(stripe.CardError) as declined:
            await rig.intent(f"pm_card_{id}")
        assert (declined.value.http_status, declined.value.code) == (402, code)
        error: Any = declined.value.error
        assert error.type == "card_error"
        body: Any = declined.value.json_body
        assert body["error"].get("decline_code") == decline_code
        assert error.doc_url == f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        intent = rig.data(error.payment_intent.id)
        assert (intent["status"], intent["payment_method"]) == ("requires_payment_method", None)
        assert intent["latest_charge"] == error.charge
        assert intent["last_payment_error"]["code"] == code
        assert intent["last_payment_error"]["payment_method"]["id"] == error.payment_method.id
        charge = rig.data(error.charge)
        assert (charge["status"], charge["paid"], charge["failure_code"]) == ("failed", False, code)
        assert rig.sandbox.events.types()[seen:] == DECLINE


async def test_a_blocked_payment_never_reached_the_network(rig: Any) -> None:
    with pytest.raises(stripe.CardError) as declined:
        await rig.intent("pm_card_radarBlock")
    error: Any = declined.value.error
    outcome = rig.data(error.charge)["outcome"]
    assert (outcome["type"], outcome["network_status"]) == ("blocked", "not_sent_to_network")


async def test_after_a_decline_another_card_pays(rig: Any) -> None:
    with pytest.raises(stripe.CardError) as declined:
        await rig.intent("pm_card_chargeDeclined")
    error: Any = declined.value.error
    id = error.payment_intent.id
    paid = await rig.client.v1.payment_intents.confirm_async(
        id, {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
    )
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)
    charges = await rig.client.v1.charges.list_async({"payment_intent": id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


async def test_an_update_clears_the_last_error(rig: Any) -> None:
    with pytest.raises(stripe.CardError) as declined:
        await rig.intent("pm_card_chargeDeclined")
    error: Any = declined.value.error
    id = error.payment_intent.id
    assert rig.data(id)["last_payment_error"] is not None
    updated = await rig.client.v1.payment_intents.update_async(id, {"description": "again"})
    assert updated.last_payment_error is None


async def test_each_use_of_a_test_id_mints_a_new_method(rig: Any) -> None:
    first, second = await rig.intent(), await rig.intent()
    assert first.payment_method != second.payment_method
    method = await rig.client.v1.payment_methods.retrieve_async(first.payment_method)
    assert (method.card.brand, method.card.last4) == ("visa", "4242")


async def test_a_method_without_a_customer_pays_only_once(rig: Any) -> None:
    intent = await rig.intent()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.intent(intent.payment_method)
    assert "previously used" in str(refused.value)


async def test_an_unknown_method_is_a_missing_resource(rig: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.intent("pm_unknown")
    assert (refused.value.code, refused.value.param) == ("resource_missing", "payment_method")
    assert (await rig.client.v1.payment_intents.list_async()).data == []


async def test_a_method_of_an_excluded_kind_is_refused(rig: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.intent("pm_usBankAccount", allowed_payment_method_types=["card"])
    assert refused.value.param == "payment_method"
    intent = await create(rig, currency="eur", excluded_payment_method_types=["multibanco"])
    assert intent.payment_method_types == ["card"]


async def test_shipping_and_receipt_are_kept(rig: Any) -> None:
    shipping = {"name": "Jenny", "address": {"line1": "1 Street", "country": "US"}}
    intent = await rig.intent(shipping=shipping, receipt_email="jenny@example.com")
    assert intent.shipping.name == "Jenny"
    assert intent.shipping.address.country == "US"
    assert rig.data(intent.latest_charge)["receipt_email"] == "jenny@example.com"
