"""Stripe's hosted page: from a request to an order."""

import asyncio
from typing import Any

import pytest

from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, book, ok, open_shop, refused, until

SUCCEEDED = [("pending", "succeeded")]
DAY = 24 * 3600


async def status_of(shop: Shop, session: dict[str, Any]) -> dict[str, Any]:
    return ok(await shop.get(f"/checkout-session/{session['session_id']}"))


async def assert_one_order(shop: Shop, session: dict[str, Any]) -> None:
    """Promise 1 for a paid session, seen from outside and in the store."""
    payment = await shop.payment(session["payment_id"])
    assert payment["status"] == "succeeded"
    assert payment["stripe_checkout_session_id"] == session["session_id"]
    assert payment["failure"] is None
    (order,) = await shop.orders()
    assert order["order_id"] == payment["order_id"]
    assert (order["status"], order["total_cents"]) == ("paid", session["amount_cents"])
    assert order["items"] == payment["items"]
    (document,) = await shop.stored("orders")
    assert document["_id"] == order["order_id"]
    stored = await shop.stored_payment(session["payment_id"])
    assert stored["status"] == "succeeded"
    assert "reconcile_at" not in stored, "a finished payment is at rest"


async def assert_no_order(shop: Shop, session: dict[str, Any], status: str) -> None:
    """Promise 1 for an unpaid session."""
    payment = await shop.payment(session["payment_id"])
    assert (payment["status"], payment["order_id"]) == (status, None)
    assert await shop.orders() == []
    assert await shop.stored("orders") == []
    assert (await shop.stored_payment(session["payment_id"]))["status"] == status


# The whole life


async def test_paid_session_becomes_one_order_by_webhook(shop: Shop) -> None:
    session = await shop.create_session(items=[book(price_cents=999, quantity=2)])
    assert session["amount_cents"] == 1998
    assert session["currency"] == "usd"
    assert session["session_id"] in session["checkout_url"]
    await assert_no_order(shop, session, "pending")

    assert shop.stripe.pay_session(session["session_id"]).outcome == "complete"
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, session)
    assert await shop.transitions(session["payment_id"]) == SUCCEEDED


async def test_paid_session_becomes_one_order_by_the_success_page(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    await assert_no_order(shop, session, "pending")

    seen = await status_of(shop, session)

    assert seen == {
        "session_id": session["session_id"],
        "payment_id": session["payment_id"],
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 999,
        "currency": "usd",
        "order_id": (await shop.payment(session["payment_id"]))["order_id"],
    }
    await assert_one_order(shop, session)


async def test_webhook_and_success_page_at_once_make_one_order(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])

    shop.stripe.webhooks.resume()
    seen = await asyncio.gather(*(status_of(shop, session) for _ in range(10)))
    await shop.stripe.webhooks.drain()

    (order,) = await shop.stored("orders")
    assert {reply["order_id"] for reply in seen} == {order["_id"]}
    await assert_one_order(shop, session)
    assert await shop.transitions(session["payment_id"]) == SUCCEEDED


async def test_finished_session_is_answered_from_our_own_record(shop: Shop) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    await shop.stripe.webhooks.drain()
    shop.stripe.requests.clear()

    seen = await status_of(shop, session)

    assert (seen["status"], seen["payment_status"], seen["amount_total"]) == (
        "complete",
        "paid",
        999,
    )
    assert seen["order_id"] is not None
    assert len(shop.stripe.requests) == 0


async def test_payment_is_found_under_its_session_id_and_its_payment_intent_id(shop: Shop) -> None:
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"])
    await shop.stripe.webhooks.drain()

    assert page.payment_intent is not None
    payment = await shop.payment(session["payment_id"])
    assert payment["stripe_payment_intent_id"] == page.payment_intent["id"]
    assert await shop.payment(session["session_id"]) == payment
    assert await shop.payment(page.payment_intent["id"]) == payment


async def test_open_session_is_seen_open_and_unpaid(shop: Shop) -> None:
    session = await shop.create_session()

    seen = await status_of(shop, session)

    assert (seen["status"], seen["payment_status"], seen["order_id"]) == ("open", "unpaid", None)
    await assert_no_order(shop, session, "pending")


async def test_session_of_nobody_here_is_not_found(shop: Shop) -> None:
    await shop.create_session()

    refused(await shop.get("/checkout-session/cs_test_unknown"), 404, "checkout_session_not_found")


# Declines and 3-D Secure on the page


async def test_good_card_after_a_declined_one_pays_the_same_session(shop: Shop) -> None:
    session = await shop.create_session()

    declined = shop.stripe.pay_session(session["session_id"], "pm_card_visa_chargeDeclinedLostCard")
    await shop.stripe.webhooks.drain()
    assert declined.outcome == "declined"
    await assert_no_order(shop, session, "failed")
    failure = (await shop.payment(session["payment_id"]))["failure"]
    assert failure["decline_code"] == "generic_decline"
    seen = await status_of(shop, session)
    assert (seen["status"], seen["payment_status"], seen["order_id"]) == ("open", "unpaid", None)
    await assert_no_order(shop, session, "failed")

    shop.stripe.pay_session(session["session_id"], "pm_card_visa")
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, session)
    assert await shop.transitions(session["payment_id"]) == [
        ("pending", "failed"),
        ("failed", "succeeded"),
    ]


async def test_session_with_3d_secure_is_paid_when_approved(shop: Shop) -> None:
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_card_threeDSecure2Required")
    await shop.stripe.webhooks.drain()
    assert page.outcome == "requires_action"
    assert page.payment_intent is not None
    await assert_no_order(shop, session, "pending")

    shop.stripe.authenticate(page.payment_intent["id"], approve=True)
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, session)


async def test_session_with_3d_secure_refused_fails_and_can_be_paid_then(shop: Shop) -> None:
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_card_threeDSecure2Required")
    assert page.payment_intent is not None

    shop.stripe.authenticate(page.payment_intent["id"], approve=False)
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, session, "failed")
    shop.stripe.pay_session(session["session_id"])
    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, session)


# Bank debits: complete is not paid


@pytest.mark.parametrize("learned_by", ["webhook", "success page"])
async def test_bank_debit_is_no_order_until_the_bank_has_paid(shop: Shop, learned_by: str) -> None:
    if learned_by == "success page":
        shop.stripe.webhooks.pause()
    session = await shop.create_session()

    async def learn() -> dict[str, Any]:
        if learned_by == "webhook":
            await shop.stripe.webhooks.drain()
        return await status_of(shop, session)

    page = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    assert page.payment_intent is not None
    seen = await learn()
    assert (seen["status"], seen["payment_status"], seen["order_id"]) == (
        "complete",
        "unpaid",
        None,
    )
    await assert_no_order(shop, session, "processing")

    shop.stripe.settle(page.payment_intent["id"], "succeeded")
    seen = await learn()
    assert (seen["status"], seen["payment_status"]) == ("complete", "paid")
    assert seen["order_id"] is not None
    await assert_one_order(shop, session)
    assert await shop.transitions(session["payment_id"]) == [
        ("pending", "processing"),
        ("processing", "succeeded"),
    ]


async def test_bank_debit_that_bounces_is_failed_and_never_an_order(shop: Shop) -> None:
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    await shop.stripe.webhooks.drain()
    assert page.payment_intent is not None

    shop.stripe.settle(page.payment_intent["id"], "failed")
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, session, "failed")
    failure = (await shop.payment(session["payment_id"]))["failure"]
    assert failure["code"] == "insufficient_funds"
    seen = await status_of(shop, session)
    assert (seen["status"], seen["payment_status"], seen["order_id"]) == (
        "complete",
        "unpaid",
        None,
    )
    await assert_no_order(shop, session, "failed")


async def test_bounced_debit_whose_events_come_in_reverse_stays_failed(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    assert page.payment_intent is not None
    shop.stripe.settle(page.payment_intent["id"], "failed")

    newest_first = [event["id"] for event in reversed(shop.stripe.events.all())]
    shop.stripe.webhooks.release(newest_first)
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, session, "failed")


async def test_bounced_debit_that_only_the_reconciler_learns_of_is_failed(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    assert page.payment_intent is not None
    shop.stripe.settle(page.payment_intent["id"], "failed")

    shop.clock.advance(minutes=2)
    await shop.services.reconciliation.run_once()

    await assert_no_order(shop, session, "failed")


# Nobody pays


@pytest.mark.parametrize("how", ["of its age", "by hand"])
async def test_session_that_expired_is_canceled(shop: Shop, how: str) -> None:
    session = await shop.create_session()

    if how == "of its age":
        shop.stripe.clock.advance(DAY + 1)
    else:
        shop.stripe.expire_session(session["session_id"])
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, session, "canceled")
    assert "reconcile_at" not in await shop.stored_payment(session["payment_id"])
    seen = await status_of(shop, session)
    assert (seen["status"], seen["payment_status"], seen["order_id"]) == ("expired", "unpaid", None)


async def test_success_page_of_an_expired_session_records_that_it_is_canceled(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    session = await shop.create_session()
    shop.stripe.expire_session(session["session_id"])

    assert (await status_of(shop, session))["status"] == "expired"

    await assert_no_order(shop, session, "canceled")


async def test_session_that_expires_after_a_decline_is_canceled(shop: Shop) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"], "pm_card_visa_chargeDeclined")

    shop.stripe.expire_session(session["session_id"])
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, session, "canceled")


async def test_session_that_nobody_paid_is_expired_by_the_reconciler_after_a_day(
    shop: Shop,
) -> None:
    session = await shop.create_session()

    shop.clock.advance(hours=23)
    await shop.services.reconciliation.run_once()
    await assert_no_order(shop, session, "pending")
    shop.clock.advance(hours=1, seconds=1)
    await shop.services.reconciliation.run_once()

    assert shop.stripe.checkout_sessions.named(session["session_id"]).data["status"] == "expired"
    await assert_no_order(shop, session, "canceled")


# Given up

NEW = {"user_id": "user_123", "items": [book()]}


def sessions_at_stripe(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.stripe.checkout_sessions.list({})["data"]
    return found


@pytest.mark.shop(settings={"abandon_after_seconds": 3600})
async def test_session_that_was_given_up_is_not_handed_out_by_a_repeat(shop: Shop) -> None:
    shop.stripe.faults.add(
        "error_before", path="^/v1/checkout/sessions$", status=503, headers=GIVE_UP
    )
    refused(await shop.post("/create-checkout-session", NEW, key="cart-7"), 502, "stripe_error")
    await shop.reconcile(hours=2)

    for _ in range(2):
        refused(
            await shop.post("/create-checkout-session", NEW, key="cart-7"),
            409,
            "payment_not_confirmable",
        )

    (stored,) = await shop.stored("payments")
    assert stored["status"] == "canceled"
    assert sessions_at_stripe(shop) == []
    assert ok(await shop.post("/create-checkout-session", NEW, key="cart-8"))["checkout_url"]


async def test_session_that_was_given_up_while_stripe_was_asked_is_expired_there() -> None:
    faults = DatabaseFaults()
    options = ShopOptions(settings={"abandon_after_seconds": 3600}, connect=faulty(faults))
    async with open_shop(options) as shop:
        # Stripe has answered, and its id is about to be saved.
        pause = faults.pause("update_one", collection="payments")
        request = asyncio.create_task(shop.post("/create-checkout-session", NEW, key="cart-7"))
        await pause.reached()
        await shop.reconcile(hours=2)
        assert [session["status"] for session in sessions_at_stripe(shop)] == ["open"]
        pause.go_on()

        refused(await request, 409, "payment_not_confirmable")

        assert [session["status"] for session in sessions_at_stripe(shop)] == ["expired"]
        await shop.stripe.webhooks.drain()
        (stored,) = await shop.stored("payments")
        assert stored["status"] == "canceled"
        assert await shop.stored("orders") == []


@pytest.mark.shop(settings={"abandon_after_seconds": 3600}, webhooks=False)
async def test_success_page_of_a_canceled_payment_tells_of_money_that_arrived(shop: Shop) -> None:
    """Stripe made the session, its answer was lost and the payment given up; then it was paid."""
    shop.stripe.faults.add("error_after", path="^/v1/checkout/sessions$", headers=GIVE_UP)
    refused(await shop.post("/create-checkout-session", NEW, key="cart-7"), 502, "stripe_error")
    await shop.reconcile(hours=2)
    (stored,) = await shop.stored("payments")
    assert stored["status"] == "canceled"
    (made,) = sessions_at_stripe(shop)
    await shop.databases.payments["payments"].update_one(
        {"_id": stored["_id"]}, {"$set": {"stripe_checkout_session_id": made["id"]}}
    )
    assert shop.stripe.pay_session(made["id"]).outcome == "complete"

    shown = await status_of(shop, {"session_id": made["id"]})

    assert (shown["status"], shown["payment_status"]) == ("complete", "paid")
    assert (shown["amount_total"], shown["order_id"]) == (999, None)
    (stored,) = await shop.stored("payments")
    assert (stored["status"], stored["review"]["reason"]) == (
        "canceled",
        "paid_after_cancellation",
    )
    assert await shop.stored("orders") == []


# What Stripe refuses


@pytest.mark.parametrize(
    ("param", "field"),
    [
        ("customer_email", "customer_email"),
        ("line_items[0][price_data][product_data][name]", "items"),
        ("success_url", "success_url"),
    ],
)
@pytest.mark.shop(webhooks=False)
async def test_session_that_stripe_refuses_for_a_field_is_the_callers_mistake(
    shop: Shop, param: str, field: str
) -> None:
    refusal = shop.stripe.faults.add(
        "error_before",
        path="^/v1/checkout/sessions$",
        times=None,
        status=400,
        param=param,
        headers=GIVE_UP,
    )
    body = {**NEW, "customer_email": "reader@example.com"}

    problem = refused(
        await shop.post("/create-checkout-session", body, key="cart-7"), 422, "validation_error"
    )

    assert [error["field"] for error in problem["errors"]] == [field]
    (stored,) = await shop.stored("payments")
    assert stored["status"] == "canceled"
    assert "reconcile_at" not in stored
    await shop.reconcile(hours=1)
    refused(
        await shop.post("/create-checkout-session", body, key="cart-7"), 422, "validation_error"
    )
    assert refusal.hits == 1


# What Stripe is asked


@pytest.mark.shop(settings={"deployment_name": "suite"})
async def test_stripe_is_asked_with_our_id_on_the_session_and_on_its_payment_intent(
    shop: Shop,
) -> None:
    session = await shop.create_session(
        items=[book(title="Dune", price_cents=999, quantity=2), book(book_id="ubik", title=None)],
        metadata={"campaign": "autumn"},
        customer_email="reader@example.com",
        success_url="http://localhost:5173/done?from=shop",
        cancel_url="http://localhost:5173/cart",
    )
    (request,) = shop.stripe.requests.matching("POST", "^/v1/checkout/sessions$")
    page = shop.stripe.pay_session(session["session_id"])

    assert request.idempotency_key == f"checkout_session:{session['payment_id']}"
    assert "payment_method_types" not in request.params
    assert request.params["client_reference_id"] == session["payment_id"]
    ours = {
        "campaign": "autumn",
        "payment_id": session["payment_id"],
        "user_id": "user_123",
        "deployment": "suite",
    }
    assert request.params["metadata"] == ours
    assert page.session["metadata"] == ours
    assert page.payment_intent is not None
    assert page.payment_intent["metadata"] == ours, "a session's metadata is not copied to it"
    assert page.payment_intent["amount"] == session["amount_cents"] == 2 * 999 + 999
    items = shop.stripe.checkout_sessions.line_items({}, session["session_id"])["data"]
    assert [(item["description"], item["quantity"], item["amount_total"]) for item in items] == [
        ("Dune", 2, 1998),
        ("ubik", 1, 999),
    ]
    assert page.session["customer_email"] == "reader@example.com"
    assert page.session["cancel_url"] == "http://localhost:5173/cart"
    assert page.redirect_url == (
        f"http://localhost:5173/done?from=shop&session_id={session['session_id']}"
    )


async def test_two_sessions_are_two_payments_under_two_keys(shop: Shop) -> None:
    first, second = await shop.create_session(), await shop.create_session()

    assert first["payment_id"] != second["payment_id"]
    assert first["session_id"] != second["session_id"]
    keys = {
        request.idempotency_key
        for request in shop.stripe.requests.matching("POST", "^/v1/checkout/sessions$")
    }
    assert len(keys) == 2


async def test_session_whose_creation_was_not_answered_is_the_one_that_is_paid(shop: Shop) -> None:
    """The answer is lost and with it Stripe's id; the payment's id in the metadata is not."""
    shop.stripe.webhooks.pause()
    request = asyncio.create_task(shop.create_session())
    await until(lambda: bool(shop.stripe.checkout_sessions.list({})["data"]))
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    (stored,) = await shop.stored("payments")
    assert "stripe_checkout_session_id" not in stored, "the crash came too late to tell anything"
    (session,) = shop.stripe.checkout_sessions.list({})["data"]

    shop.stripe.pay_session(session["id"])
    shop.stripe.webhooks.resume()
    await shop.stripe.webhooks.drain()

    await assert_one_order(
        shop, {"payment_id": stored["_id"], "session_id": session["id"], "amount_cents": 999}
    )


# What is handed through to Stripe


async def test_the_pages_language_and_the_shoppers_address_are_handed_to_stripe(
    shop: Shop,
) -> None:
    created = await shop.create_session(locale="pt-BR", customer_email=" ada@example.com")

    session = shop.stripe.checkout_sessions.named(created["session_id"]).data
    assert session["locale"] == "pt-BR"
    assert session["customer_email"] == "ada@example.com"
    assert "ada@example.com" not in str(await shop.stored("payments"))


async def test_a_language_that_stripes_page_does_not_speak_is_refused(shop: Shop) -> None:
    body = {"user_id": "user_123", "items": [book()], "locale": "tlh"}
    refused(await shop.post("/create-checkout-session", body), 422, "validation_error")
    assert await shop.stored("payments") == []


async def test_the_shoppers_address_is_the_same_when_stripe_is_asked_again() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        body = {"user_id": "user_123", "items": [book()], "customer_email": "ada@example.com"}
        # Stripe has made it, and its id is not recorded.
        faults.add("update_one", collection="payments")
        assert (await shop.post("/create-checkout-session", body, key="buy-1")).status_code == 503

        assert not (await shop.reconcile(minutes=2)).failed

        again = ok(await shop.post("/create-checkout-session", body, key="buy-1"))
        (session,) = shop.stripe.checkout_sessions.list({})["data"]
        assert (session["id"], session["url"]) == (again["session_id"], again["checkout_url"])
        assert "ada@example.com" not in str(await shop.stored("payments"))
