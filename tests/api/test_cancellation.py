"""An unpaid payment is closed, at Stripe too; whichever of it and the shopper is first decides."""

import asyncio
from typing import Any

import pytest

from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, book, ok, open_shop, refused, until

Document = dict[str, Any]


async def cancel(shop: Shop, any_id: str, *, key: str | None = None) -> Any:
    return await shop.post(f"/payment/{any_id}/cancel", {}, key=key)


def intent_at_stripe(shop: Shop, created: Document) -> Document:
    data: Document = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
    return data


async def test_a_payment_intent_is_canceled_at_stripe_and_here(shop: Shop) -> None:
    created = await shop.create_intent()

    canceled = ok(await cancel(shop, created["payment_id"]))

    assert canceled["status"] == "canceled"
    at_stripe = intent_at_stripe(shop, created)
    assert (at_stripe["status"], at_stripe["cancellation_reason"]) == (
        "canceled",
        "requested_by_customer",
    )
    assert canceled == await shop.payment(created["payment_id"])
    stored = await shop.stored_payment(created["payment_id"])
    assert stored["history"][-1]["cause"] == "canceled by the caller"
    assert "reconcile_at" not in stored
    problem = refused(await shop.confirm(created, "pm_card_visa"), 409, "payment_not_confirmable")
    assert problem["payment_status"] == "canceled"


async def test_a_page_is_expired_at_stripe_and_its_payment_canceled(shop: Shop) -> None:
    session = await shop.create_session()

    canceled = ok(await cancel(shop, session["payment_id"]))

    assert canceled["status"] == "canceled"
    assert shop.stripe.checkout_sessions.named(session["session_id"]).data["status"] == "expired"


@pytest.mark.parametrize("kind", ["payment_intent_id", "session_id"])
async def test_stripes_id_names_the_payment_as_well(shop: Shop, kind: str) -> None:
    created: Document = (
        await shop.create_intent() if kind == "payment_intent_id" else await shop.create_session()
    )
    assert ok(await cancel(shop, created[kind]))["payment_id"] == created["payment_id"]


async def test_canceling_again_changes_nothing(shop: Shop) -> None:
    created = await shop.create_intent()
    first = ok(await cancel(shop, created["payment_id"], key="close-1"))
    asked = len(shop.stripe.requests.matching("POST"))

    assert ok(await cancel(shop, created["payment_id"])) == first
    replay = await cancel(shop, created["payment_id"], key="close-1")

    assert ok(replay) == first
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert len(shop.stripe.requests.matching("POST")) == asked


async def test_one_key_cancels_one_payment(shop: Shop) -> None:
    first, second = await shop.create_intent(), await shop.create_intent()
    ok(await cancel(shop, first["payment_id"], key="close-1"))

    refused(await cancel(shop, second["payment_id"], key="close-1"), 422, "idempotency_key_reused")

    assert (await shop.payment(second["payment_id"]))["status"] == "pending"


async def test_a_declined_payment_can_be_canceled(shop: Shop) -> None:
    created = await shop.create_intent()
    await shop.confirm(created, "pm_card_visa_chargeDeclined")
    assert ok(await cancel(shop, created["payment_id"]))["status"] == "canceled"


async def test_a_paid_payment_is_not_canceled_and_names_its_order(shop: Shop) -> None:
    paid = await shop.pay_by_card()

    problem = refused(await cancel(shop, paid["payment_id"]), 409, "payment_not_cancelable")

    assert problem["payment_status"] == "succeeded"
    assert problem["order_id"] == paid["order_id"]
    assert await shop.payment(paid["payment_id"]) == paid


async def test_a_payment_that_is_held_for_review_is_not_canceled(shop: Shop) -> None:
    created = await shop.create_intent()
    intent_at_stripe(shop, created)["amount"] = 500
    await shop.confirm_in_browser(created)
    await shop.stripe.webhooks.drain()

    problem = refused(await cancel(shop, created["payment_id"]), 409, "payment_not_cancelable")

    assert "checking" in problem["detail"]
    assert problem["held"] is True
    assert intent_at_stripe(shop, created)["status"] == "succeeded"


async def test_a_bank_debit_that_the_bank_has_is_not_canceled(shop: Shop) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")

    problem = refused(await cancel(shop, session["payment_id"]), 409, "payment_not_cancelable")

    assert problem["payment_status"] == "processing"
    shop.stripe.settle((await shop.payment(session["payment_id"]))["stripe_payment_intent_id"])
    await shop.stripe.webhooks.drain()
    assert (await shop.payment(session["payment_id"]))["status"] == "succeeded"


@pytest.mark.parametrize("told", [True, False], ids=["after its event", "before its event"])
async def test_a_payment_intent_that_the_bank_has_is_not_canceled(shop: Shop, told: bool) -> None:
    created = await shop.create_intent()
    shop.stripe.webhooks.pause()
    await shop.confirm_in_browser(created, "pm_usBankAccount")
    if told:
        shop.stripe.webhooks.resume()
        await shop.stripe.webhooks.drain()

    problem = refused(await cancel(shop, created["payment_id"]), 409, "payment_not_cancelable")

    assert problem["payment_status"] == "processing"
    assert intent_at_stripe(shop, created)["status"] == "processing"


async def test_a_completed_page_whose_bank_debit_failed_is_closed_here(shop: Shop) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    await shop.stripe.webhooks.drain()
    intent_id = (await shop.payment(session["payment_id"]))["stripe_payment_intent_id"]
    shop.stripe.settle(intent_id, "failed")
    await shop.stripe.webhooks.drain()

    assert ok(await cancel(shop, session["payment_id"]))["status"] == "canceled"


@pytest.mark.parametrize("how", ["PaymentIntent", "Checkout Session"])
async def test_a_shopper_who_pays_first_has_paid(shop: Shop, how: str) -> None:
    created: Document
    if how == "PaymentIntent":
        created, path = await shop.create_intent(), "/cancel$"
    else:
        created, path = await shop.create_session(), "/expire$"
    slow = shop.stripe.faults.add("latency", path=f"^/v1/.*{path}", seconds=0.5)
    canceling = asyncio.ensure_future(cancel(shop, created["payment_id"]))
    await until(lambda: slow.hits == 1)
    if how == "PaymentIntent":
        await shop.confirm_in_browser(created)
    else:
        shop.stripe.pay_session(created["session_id"])

    problem = refused(await canceling, 409, "payment_not_cancelable")

    assert problem["payment_status"] == "succeeded"
    await shop.stripe.webhooks.drain()
    (order,) = await shop.orders()
    assert order["order_id"] == problem["order_id"]


async def test_a_shopper_who_is_second_cannot_pay(shop: Shop) -> None:
    created = await shop.create_intent()
    ok(await cancel(shop, created["payment_id"]))

    assert (await shop.confirm_in_browser(created)).status_code == 400

    await shop.stripe.webhooks.drain()
    assert (await shop.payment(created["payment_id"]))["status"] == "canceled"
    assert await shop.orders() == []


async def test_stripes_silence_leaves_the_payment_open_and_the_repeat_closes_it(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("error_before", path="/cancel$", headers=GIVE_UP)

    refused(await cancel(shop, created["payment_id"], key="close-1"), 502, "stripe_error")
    assert (await shop.payment(created["payment_id"]))["status"] == "pending"

    assert ok(await cancel(shop, created["payment_id"], key="close-1"))["status"] == "canceled"


async def test_a_refusal_that_says_nothing_of_the_payment_is_no_answer(shop: Shop) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("error_before", path="/cancel$", status=400, code="some_code")

    refused(await cancel(shop, created["payment_id"], key="close-1"), 502, "stripe_error")

    assert ok(await cancel(shop, created["payment_id"], key="close-1"))["status"] == "canceled"


async def test_an_answer_lost_at_stripe_is_made_up_for_by_its_event(shop: Shop) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("drop_after", path="/cancel$", times=3)

    await cancel(shop, created["payment_id"])
    await shop.stripe.webhooks.drain()

    assert (await shop.payment(created["payment_id"]))["status"] == "canceled"


@pytest.mark.shop(webhooks=False)
async def test_a_payment_that_never_reached_stripe_is_closed_here(shop: Shop) -> None:
    body = {"user_id": "user_123", "amount": 999}
    slow = shop.stripe.faults.add("latency", path="^/v1/payment_intents$", seconds=0.4)
    creating = asyncio.ensure_future(shop.post("/create-payment-intent", body, key="buy-1"))
    await until(lambda: slow.hits == 1)
    (stored,) = await shop.stored("payments")

    assert ok(await cancel(shop, stored["_id"]))["status"] == "canceled"

    refused(await creating, 409, "payment_not_confirmable")
    (intent,) = shop.stripe.payment_intents.list({})["data"]
    assert intent["status"] == "canceled", "what was made meanwhile is closed as well"


async def test_a_credits_payment_is_over_at_once(shop: Shop) -> None:
    paid = await shop.pay_with_credits()
    refused(await cancel(shop, paid["payment_id"]), 409, "payment_not_cancelable")
    assert await shop.credits() == 9


async def test_a_credits_payment_that_was_cut_short_takes_nothing_once_canceled() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        faults.add("find_one_and_update", database="auth")
        body = {"user_id": "user_123", "items": [book()]}
        assert (await shop.post("/pay-with-credits", body, key="buy-1")).status_code == 503
        (stored,) = await shop.stored("payments")

        assert ok(await cancel(shop, stored["_id"]))["status"] == "failed"

        assert (await shop.post("/pay-with-credits", body, key="buy-1")).status_code == 409
        assert await shop.credits() == 10
        again = ok(await cancel(shop, stored["_id"]))
        assert again["failure"]["code"] == "canceled"


async def test_an_unknown_payment_is_not_found(shop: Shop) -> None:
    for any_id in ("pay_unknown", "pi_unknown", "cs_unknown"):
        refused(await cancel(shop, any_id), 404, "payment_not_found")


async def test_no_body_is_needed(shop: Shop) -> None:
    created = await shop.create_intent()
    response = await shop.client.post(f"/api/v1/payment/payment/{created['payment_id']}/cancel")
    assert ok(response)["status"] == "canceled"
