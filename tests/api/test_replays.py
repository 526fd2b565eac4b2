"""A repeat gets the stored answer of its first try only while a shopper can still pay with it."""

from typing import Any

import pytest
from pydantic import BaseModel

from app.schemas.checkout import CreateCheckoutSessionBody
from app.schemas.intents import CreatePaymentIntentBody
from tests.support.shop import GIVE_UP, Shop, book, ok, refused

Document = dict[str, Any]
PATHS = {"PaymentIntent": "/create-payment-intent", "Checkout Session": "/create-checkout-session"}
BODY = {"user_id": "user_123", "items": [book()]}

every_way = pytest.mark.parametrize("way", PATHS)


async def start(shop: Shop, way: str) -> Any:
    return await shop.post(PATHS[way], BODY, key="cart-1")


def stripes_object(shop: Shop, created: Document) -> Document:
    data: Document
    if "session_id" in created:
        data = shop.stripe.checkout_sessions.named(created["session_id"]).data
    else:
        data = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
    return data


async def pay(shop: Shop, created: Document, payment_method: str = "pm_card_visa") -> None:
    if "session_id" in created:
        shop.stripe.pay_session(created["session_id"], payment_method)
    else:
        await shop.confirm_in_browser(created, payment_method)


def close(shop: Shop, created: Document) -> None:
    """In Stripe's Dashboard."""
    if "session_id" in created:
        shop.stripe.expire_session(created["session_id"])
    else:
        shop.stripe.payment_intents.cancel({}, created["payment_intent_id"])


@every_way
@pytest.mark.parametrize("told", [True, False], ids=["after its event", "before its event"])
@pytest.mark.shop(webhooks=False)
async def test_what_was_closed_at_stripe_is_not_handed_out_again(
    shop: Shop, way: str, told: bool
) -> None:
    created = ok(await start(shop, way))
    close(shop, created)
    if told:
        await shop.reconcile(minutes=2)

    problem = refused(await start(shop, way), 409, "payment_not_confirmable")

    assert problem["payment_status"] == "canceled"
    assert problem["payment_id"] == created["payment_id"]
    assert "start again" in problem["detail"]
    assert (await shop.payment(created["payment_id"]))["status"] == "canceled"


@every_way
@pytest.mark.parametrize("told", [True, False], ids=["after its event", "before its event"])
@pytest.mark.shop(webhooks=False)
async def test_what_was_paid_is_not_handed_out_again_and_says_so(
    shop: Shop, way: str, told: bool
) -> None:
    created = ok(await start(shop, way))
    await pay(shop, created)
    if told:
        await shop.reconcile(minutes=2)

    problem = refused(await start(shop, way), 409, "payment_not_confirmable")

    assert "has been paid" in problem["detail"]
    assert problem["payment_status"] == "succeeded"
    (order,) = await shop.orders()
    assert problem["order_id"] == order["order_id"]


@every_way
async def test_what_the_bank_has_is_not_handed_out_again(shop: Shop, way: str) -> None:
    created = ok(await start(shop, way))
    await pay(shop, created, "pm_usBankAccount")

    problem = refused(await start(shop, way), 409, "payment_not_confirmable")

    assert problem["payment_status"] == "processing"


async def test_a_completed_page_whose_bank_debit_failed_is_not_handed_out_again(
    shop: Shop,
) -> None:
    created = ok(await start(shop, "Checkout Session"))
    await pay(shop, created, "pm_usBankAccount")
    shop.stripe.settle(stripes_object(shop, created)["payment_intent"], "failed")
    await shop.stripe.webhooks.drain()

    problem = refused(await start(shop, "Checkout Session"), 409, "payment_not_confirmable")

    assert problem["payment_status"] == "failed"


@every_way
@pytest.mark.shop(webhooks=False)
async def test_what_is_held_for_review_is_not_handed_out_again(shop: Shop, way: str) -> None:
    created = ok(await start(shop, way))
    await pay(shop, created)
    stripes_object(shop, created)["currency"] = "eur"

    problem = refused(await start(shop, way), 409, "payment_not_confirmable")

    assert "checking" in problem["detail"]


@every_way
async def test_what_can_still_be_paid_is_handed_out_word_for_word(shop: Shop, way: str) -> None:
    created = ok(await start(shop, way))
    for _ in range(2):
        again = await start(shop, way)
        assert ok(again) == created
        assert again.headers["Idempotent-Replayed"] == "true"


async def test_a_declined_payment_is_handed_out_to_be_tried_again(shop: Shop) -> None:
    created = ok(await start(shop, "PaymentIntent"))
    await shop.confirm(created, "pm_card_visa_chargeDeclined")

    assert ok(await start(shop, "PaymentIntent")) == created


@every_way
async def test_nothing_is_handed_out_while_stripe_cannot_say_what_became_of_it(
    shop: Shop, way: str
) -> None:
    created = ok(await start(shop, way))
    shop.stripe.faults.add("error_before", path="^/v1/", method="GET", headers=GIVE_UP)

    refused(await start(shop, way), 502, "stripe_error")

    assert ok(await start(shop, way)) == created


async def test_a_confirmation_that_asked_for_3d_secure_is_not_repeated_once_it_is_paid(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    asked = ok(await shop.confirm(created, "pm_card_threeDSecure2Required", key="try-1"))
    assert ok(await shop.confirm(created, "pm_card_threeDSecure2Required", key="try-1")) == asked
    shop.stripe.authenticate(created["payment_intent_id"])

    again = await shop.confirm(created, "pm_card_threeDSecure2Required", key="try-1")

    problem = refused(again, 409, "payment_not_confirmable")
    assert problem["payment_status"] == "succeeded"
    assert problem["order_id"] == (await shop.orders())[0]["order_id"]


async def test_a_confirmation_with_a_voucher_is_repeated_with_the_secret_that_shows_it(
    shop: Shop,
) -> None:
    body = {"user_id": "user_123", "amount": 2000, "currency": "mxn"}
    created = ok(await shop.post("/create-payment-intent", body))
    asked = ok(await shop.confirm(created, "pm_oxxo", key="try-1"))
    assert asked["status"] == "processing"

    assert ok(await shop.confirm(created, "pm_oxxo", key="try-1")) == asked

    shop.stripe.settle(created["payment_intent_id"], "succeeded")
    problem = refused(
        await shop.confirm(created, "pm_oxxo", key="try-1"), 409, "payment_not_confirmable"
    )
    assert problem["payment_status"] == "succeeded"


async def test_a_confirmation_that_was_paid_is_repeated_as_it_was(shop: Shop) -> None:
    created = await shop.create_intent()
    paid = ok(await shop.confirm(created, "pm_card_visa", key="try-1"))
    ok(await shop.post("/refund", {"payment_id": created["payment_id"]}))

    assert ok(await shop.confirm(created, "pm_card_visa", key="try-1")) == paid


@every_way
async def test_an_answer_that_was_never_stored_is_made_up_from_what_became_of_it(
    shop: Shop, way: str
) -> None:
    created = ok(await start(shop, way))
    # As if the process had died before it stored its answer.
    await shop.databases.payments["idempotency_keys"].update_many(
        {}, {"$unset": {"status_code": "", "body": ""}}
    )
    close(shop, created)
    shop.clock.advance(seconds=31)

    refused(await start(shop, way), 409, "payment_not_confirmable")


async def test_a_voucher_that_gave_way_to_a_card_is_handed_out_to_be_paid(shop: Shop) -> None:
    body = {"user_id": "user_123", "amount": 2000, "currency": "mxn"}
    created = ok(await shop.post("/create-payment-intent", body, key="cart-1"))
    await shop.confirm_in_browser(created, "pm_oxxo")
    await shop.confirm_in_browser(created, "pm_card_threeDSecure2Required")
    await shop.stripe.webhooks.drain()

    assert ok(await shop.post("/create-payment-intent", body, key="cart-1")) == created


@pytest.mark.shop(webhooks=False)
async def test_a_voucher_whose_expiry_was_not_heard_of_is_handed_out_to_be_tried_again(
    shop: Shop,
) -> None:
    body = {"user_id": "user_123", "amount": 2000, "currency": "mxn"}
    created = ok(await shop.post("/create-payment-intent", body, key="cart-1"))
    ok(await shop.confirm(created, "pm_oxxo"))
    shop.stripe.settle(created["payment_intent_id"], "failed")

    assert ok(await shop.post("/create-payment-intent", body, key="cart-1")) == created


@pytest.mark.parametrize(
    ("body_type", "since"),
    [
        (CreatePaymentIntentBody, {"receipt_email", "description"}),
        (CreateCheckoutSessionBody, {"locale"}),
    ],
)
def test_fields_that_were_not_sent_leave_the_fingerprint_of_earlier_versions(
    body_type: type[BaseModel], since: set[str]
) -> None:
    sent = body_type.model_validate({"user_id": "ada", "items": [book()]})
    assert since.isdisjoint(sent.model_dump(mode="json"))
    assert since <= set(body_type.model_fields)
