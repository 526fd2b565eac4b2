"""Stripe Elements: from a request to an order."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, book, ok, open_shop, refused

SUCCEEDED = [("pending", "succeeded")]


async def assert_one_order(shop: Shop, payment_id: str) -> None:
    """Promise 1 for a paid payment, seen from outside and in the store."""
    payment = await shop.payment(payment_id)
    assert payment["status"] == "succeeded"
    assert payment["failure"] is None
    (order,) = await shop.orders(payment["user_id"])
    assert order["order_id"] == payment["order_id"]
    assert order["payment_id"] == payment_id
    assert (order["status"], order["payment_method"]) == ("paid", "card")
    assert (order["total_cents"], order["currency"]) == (payment["amount_cents"], "usd")
    assert order["items"] == payment["items"]
    (document,) = await shop.stored("orders")
    assert document["_id"] == order["order_id"]
    stored = await shop.stored_payment(payment_id)
    assert stored["status"] == "succeeded"
    assert "reconcile_at" not in stored, "a finished payment is at rest"


async def assert_no_order(shop: Shop, payment_id: str, status: str) -> None:
    """Promise 1 for an unpaid payment."""
    payment = await shop.payment(payment_id)
    assert payment["status"] == status
    assert payment["order_id"] is None
    assert await shop.orders(payment["user_id"]) == []
    assert await shop.stored("orders") == []
    assert (await shop.stored_payment(payment_id))["status"] == status


# The whole life


async def test_card_payment_confirmed_here_becomes_one_order(shop: Shop) -> None:
    created = await shop.create_intent(amount=1299)
    assert created["status"] == "pending"
    assert created["client_secret"].startswith(created["payment_intent_id"])
    await assert_no_order(shop, created["payment_id"], "pending")

    confirmed = ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()

    assert confirmed["status"] == confirmed["stripe_status"] == "succeeded"
    assert confirmed["requires_action"] is False
    assert confirmed["client_secret"] is None
    payment = await shop.payment(created["payment_id"])
    assert payment["order_id"] == confirmed["order_id"]
    assert payment["amount_cents"] == 1299
    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == SUCCEEDED
    (charge,) = shop.events("charge.succeeded")
    assert charge["data"]["object"]["amount"] == 1299


async def test_payment_is_found_under_its_payment_intent_id_too(shop: Shop) -> None:
    created = await shop.create_intent()

    assert await shop.payment(created["payment_intent_id"]) == await shop.payment(
        created["payment_id"]
    )


async def test_cart_is_priced_here_and_kept_with_the_payment_and_its_order(shop: Shop) -> None:
    cart = [book(price_cents=999, quantity=2), book(book_id="ubik", title="Ubik", price_cents=501)]
    created = ok(
        await shop.post(
            "/create-payment-intent",
            {"user_id": "user_123", "items": cart, "metadata": {"campaign": "autumn"}},
        )
    )
    assert created["amount_cents"] == 2 * 999 + 501
    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()

    payment = await shop.payment(created["payment_id"])
    assert payment["metadata"] == {"campaign": "autumn"}
    assert [(item["book_id"], item["quantity"]) for item in payment["items"]] == [
        ("dune", 2),
        ("ubik", 1),
    ]
    await assert_one_order(shop, created["payment_id"])


async def test_payment_made_in_the_browser_becomes_an_order_by_webhook(shop: Shop) -> None:
    created = await shop.create_intent()

    assert (await shop.confirm_in_browser(created)).status_code == 200
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])
    (line,) = (await shop.stored_payment(created["payment_id"]))["history"]
    (event,) = shop.events("payment_intent.succeeded")
    assert line["cause"] == f"payment_intent.succeeded {event['id']}"


async def test_confirm_without_a_method_learns_of_a_payment_made_in_the_browser(
    shop: Shop,
) -> None:
    shop.stripe.webhooks.pause()
    created = await shop.create_intent()
    assert (await shop.confirm_in_browser(created)).status_code == 200
    await assert_no_order(shop, created["payment_id"], "pending")

    confirmed = ok(await shop.confirm(created))

    assert confirmed["status"] == "succeeded"
    await assert_one_order(shop, created["payment_id"])
    shop.stripe.webhooks.resume()
    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == SUCCEEDED


async def test_confirm_without_a_method_charges_nothing_and_reports(shop: Shop) -> None:
    created = await shop.create_intent()

    confirmed = ok(await shop.confirm(created))

    assert confirmed["status"] == "pending"
    assert confirmed["stripe_status"] == "requires_payment_method"
    assert confirmed["order_id"] is None
    await assert_no_order(shop, created["payment_id"], "pending")
    assert shop.stripe.requests.matching("POST", "/confirm$") == []


async def test_confirm_without_a_method_attempts_the_one_chosen_in_the_browser(shop: Shop) -> None:
    created = await shop.create_intent()
    intent = shop.stripe.payment_intents.named(created["payment_intent_id"])
    shop.stripe.payment_intents.update({"payment_method": "pm_card_visa"}, intent.id)
    assert intent.status == "requires_confirmation"

    assert ok(await shop.confirm(created))["status"] == "succeeded"

    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, created["payment_id"])


# Declines


async def test_good_card_after_a_declined_one_pays_the_same_payment(shop: Shop) -> None:
    created = await shop.create_intent()
    problem = refused(
        await shop.confirm(created, "pm_card_visa_chargeDeclined"), 402, "card_declined"
    )
    assert problem["decline_code"] == "generic_decline"
    assert problem["payment_id"] == created["payment_id"]
    assert problem["detail"] == "Your card was declined."
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "failed")
    assert (await shop.payment(created["payment_id"]))["failure"] == {
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": "Your card was declined.",
    }

    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == [
        ("pending", "failed"),
        ("failed", "succeeded"),
    ]
    first, second = shop.stripe.requests.matching("POST", "/confirm$")
    assert first.idempotency_key != second.idempotency_key


async def test_decline_in_the_browser_is_learned_by_webhook_and_may_be_followed_by_payment(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    declined = await shop.confirm_in_browser(created, "pm_card_chargeDeclinedExpiredCard")
    assert declined.status_code == 402
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "failed")
    failure = (await shop.payment(created["payment_id"]))["failure"]
    assert (failure["code"], failure["decline_code"]) == ("expired_card", None)

    assert (await shop.confirm_in_browser(created)).status_code == 200
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])


async def test_late_news_of_a_decline_does_not_undo_the_payment(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    created = await shop.create_intent()
    await shop.confirm_in_browser(created, "pm_card_visa_chargeDeclined")
    await shop.confirm_in_browser(created, "pm_card_visa")
    (failed,) = shop.events("payment_intent.payment_failed")
    (succeeded,) = shop.events("payment_intent.succeeded")

    shop.stripe.webhooks.release([succeeded["id"], failed["id"]])
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == SUCCEEDED


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_velocity_exceeded"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
    ],
)
async def test_shopper_is_told_why_the_card_was_declined(
    shop: Shop, card: str, decline_code: str
) -> None:
    created = await shop.create_intent()

    problem = refused(await shop.confirm(created, card), 402, "card_declined")

    assert problem["decline_code"] == decline_code
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "failed")
    message = (await shop.payment(created["payment_id"]))["failure"]["message"]
    assert message == problem["detail"]


@pytest.mark.parametrize(
    "card",
    [
        "pm_card_visa_chargeDeclinedLostCard",
        "pm_card_visa_chargeDeclinedStolenCard",
        "pm_card_radarBlock",
    ],
)
async def test_holder_of_a_lost_or_stolen_card_is_told_of_a_generic_decline(
    shop: Shop, card: str
) -> None:
    created = await shop.create_intent()

    answers = [await shop.confirm(created, card, key="one-try") for _ in range(2)]
    await shop.stripe.webhooks.drain()

    for answer in answers:
        assert refused(answer, 402, "card_declined")["decline_code"] == "generic_decline"
    answers += [
        await shop.confirm(created),
        await shop.get(f"/payment/{created['payment_id']}"),
        await shop.get(f"/payment/{created['payment_intent_id']}"),
        await shop.get("/user/user_123/payments"),
    ]
    for answer in answers:
        for confidential in ("lost", "stolen", "fraudulent"):
            assert confidential not in answer.text
    failure = (await shop.payment(created["payment_id"]))["failure"]
    assert failure["decline_code"] == "generic_decline"
    stored = (await shop.stored_payment(created["payment_id"]))["failure"]
    assert stored["decline_code"] in ("lost_card", "stolen_card", "fraudulent"), "for support"
    (key,) = await shop.stored("idempotency_keys")
    assert json.loads(key["body"])["refusal"]["facts"]["decline_code"] == "generic_decline"


@pytest.mark.parametrize("payment_method", ["pm_unknown_at_stripe", "not a payment method"])
async def test_payment_method_that_stripe_does_not_take_is_the_callers_mistake(
    shop: Shop, payment_method: str
) -> None:
    created = await shop.create_intent()

    problem = refused(await shop.confirm(created, payment_method), 422, "validation_error")

    assert [error["field"] for error in problem["errors"]] == ["payment_method_id"]
    await assert_no_order(shop, created["payment_id"], "pending")
    assert ok(await shop.confirm(created, "pm_card_visa"))["status"] == "succeeded"


# 3-D Secure


async def test_payment_waits_for_3d_secure_and_succeeds_when_approved(shop: Shop) -> None:
    created = await shop.create_intent()

    confirmed = ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))

    assert confirmed["requires_action"] is True
    assert confirmed["stripe_status"] == "requires_action"
    assert confirmed["client_secret"] == created["client_secret"]
    assert confirmed["order_id"] is None
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "pending")

    shop.stripe.authenticate(created["payment_intent_id"], approve=True)
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])
    again = ok(await shop.confirm(created))
    assert (again["status"], again["requires_action"]) == ("succeeded", False)
    assert again["client_secret"] is None


async def test_payment_fails_when_3d_secure_is_refused_and_can_be_paid_then(shop: Shop) -> None:
    created = await shop.create_intent()
    ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))

    shop.stripe.authenticate(created["payment_intent_id"], approve=False)
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, created["payment_id"], "failed")
    failure = (await shop.payment(created["payment_id"]))["failure"]
    assert failure["code"] == "payment_intent_authentication_failure"
    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == [
        ("pending", "failed"),
        ("failed", "succeeded"),
    ]


async def test_card_that_is_declined_after_3d_secure_fails_the_payment(shop: Shop) -> None:
    created = await shop.create_intent()
    ok(await shop.confirm(created, "pm_card_threeDSecureRequiredChargeDeclined"))

    shop.stripe.authenticate(created["payment_intent_id"], approve=True)
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, created["payment_id"], "failed")


async def test_3d_secure_after_a_decline_takes_the_payment_back_to_pending(shop: Shop) -> None:
    created = await shop.create_intent()
    refused(await shop.confirm(created, "pm_card_visa_chargeDeclined"), 402, "card_declined")

    ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))

    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "pending")
    assert (await shop.payment(created["payment_id"]))["failure"] is None
    shop.stripe.authenticate(created["payment_intent_id"])
    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, created["payment_id"])


async def test_same_card_refused_twice_at_3d_secure_is_failed_both_times(shop: Shop) -> None:
    """Before there is a charge, an attempt is known by its payment method, which may come back."""
    created = await shop.create_intent()
    intent_id = created["payment_intent_id"]
    ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))
    method = shop.stripe.payment_intents.named(intent_id).data["payment_method"]
    shop.stripe.authenticate(intent_id, approve=False)
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "failed")

    assert ok(await shop.confirm(created, method))["requires_action"] is True
    await assert_no_order(shop, created["payment_id"], "pending")
    shop.stripe.authenticate(intent_id, approve=False)
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, created["payment_id"], "failed")


# Bank debits


async def test_bank_debit_is_no_order_until_the_bank_has_paid(shop: Shop) -> None:
    created = await shop.create_intent()

    confirmed = ok(await shop.confirm(created, "pm_usBankAccount"))

    assert confirmed["status"] == confirmed["stripe_status"] == "processing"
    assert confirmed["order_id"] is None
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "processing")

    shop.stripe.settle(created["payment_intent_id"], "succeeded")
    await shop.stripe.webhooks.drain()

    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == [
        ("pending", "processing"),
        ("processing", "succeeded"),
    ]


async def test_bank_debit_that_bounces_fails_and_can_be_paid_by_card(shop: Shop) -> None:
    created = await shop.create_intent()
    ok(await shop.confirm(created, "pm_usBankAccount"))
    await shop.stripe.webhooks.drain()

    shop.stripe.settle(created["payment_intent_id"], "failed")
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, created["payment_id"], "failed")
    failure = (await shop.payment(created["payment_id"]))["failure"]
    assert failure["code"] == "insufficient_funds"
    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()
    await assert_one_order(shop, created["payment_id"])


async def test_bank_debit_made_in_the_browser_is_processing_by_webhook(shop: Shop) -> None:
    created = await shop.create_intent()

    await shop.confirm_in_browser(created, "pm_usBankAccount")
    await shop.stripe.webhooks.drain()

    await assert_no_order(shop, created["payment_id"], "processing")


async def test_another_card_cannot_pay_while_a_bank_debit_is_under_way(shop: Shop) -> None:
    created = await shop.create_intent()
    ok(await shop.confirm(created, "pm_usBankAccount"))

    confirmed = ok(await shop.confirm(created, "pm_card_visa"))

    assert confirmed["status"] == "processing"
    await assert_no_order(shop, created["payment_id"], "processing")
    assert shop.events("charge.succeeded") == []


# Confirming what needs no confirmation, or must not have one


@pytest.mark.parametrize("payment_method", [None, "pm_card_visa", "pm_card_visa_chargeDeclined"])
async def test_confirming_a_paid_payment_again_is_harmless(
    shop: Shop, payment_method: str | None
) -> None:
    paid = await shop.pay_by_card()
    shop.stripe.requests.clear()
    before = await shop.stored_payment(paid["payment_id"])

    confirmed = ok(
        await shop.confirm({"payment_intent_id": paid["stripe_payment_intent_id"]}, payment_method)
    )

    assert (confirmed["status"], confirmed["order_id"]) == ("succeeded", paid["order_id"])
    assert await shop.stored_payment(paid["payment_id"]) == before
    assert shop.stripe.requests.matching("POST") == []
    await assert_one_order(shop, paid["payment_id"])


async def test_confirming_a_payment_that_was_just_paid_in_the_browser_charges_once(
    shop: Shop,
) -> None:
    shop.stripe.webhooks.pause()
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)

    confirmed = ok(await shop.confirm(created, "pm_card_visa"))

    assert confirmed["status"] == "succeeded"
    assert len(shop.events("charge.succeeded")) == 1
    await assert_one_order(shop, created["payment_id"])


async def test_twenty_confirmations_at_once_make_one_charge_and_one_order(shop: Shop) -> None:
    created = await shop.create_intent()

    answers = await asyncio.gather(*(shop.confirm(created, "pm_card_visa") for _ in range(20)))
    await shop.stripe.webhooks.drain()

    confirmed = [ok(answer) for answer in answers]
    assert {reply["status"] for reply in confirmed} == {"succeeded"}
    assert len({reply["order_id"] for reply in confirmed}) == 1
    assert len(shop.events("charge.succeeded")) == 1
    await assert_one_order(shop, created["payment_id"])
    assert await shop.transitions(created["payment_id"]) == SUCCEEDED


async def test_good_and_bad_cards_at_once_never_charge_twice(shop: Shop) -> None:
    created = await shop.create_intent()
    cards = ["pm_card_visa_chargeDeclined", "pm_card_visa"] * 5

    answers = await asyncio.gather(*(shop.confirm(created, card) for card in cards))
    await shop.stripe.webhooks.drain()

    assert {answer.status_code for answer in answers} <= {200, 402}
    assert len(shop.events("charge.succeeded")) == 1
    await assert_one_order(shop, created["payment_id"])


async def test_payment_intent_of_a_checkout_session_is_not_confirmed_here(shop: Shop) -> None:
    session = await shop.create_session()
    page = shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    await shop.stripe.webhooks.drain()
    assert page.payment_intent is not None
    shop.stripe.requests.clear()

    for payment_method in (None, "pm_card_visa"):
        answer = await shop.confirm(
            {"payment_intent_id": page.payment_intent["id"]}, payment_method
        )
        refused(answer, 409, "payment_not_confirmable")

    await assert_no_order(shop, session["payment_id"], "processing")
    assert len(shop.stripe.requests) == 0


async def test_canceled_payment_is_not_confirmable_and_says_so_without_a_method(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    shop.stripe.payment_intents.cancel({}, created["payment_intent_id"])
    await shop.stripe.webhooks.drain()
    await assert_no_order(shop, created["payment_id"], "canceled")

    refused(await shop.confirm(created, "pm_card_visa"), 409, "payment_not_confirmable")

    reported = ok(await shop.confirm(created))
    assert reported["status"] == reported["stripe_status"] == "canceled"
    await assert_no_order(shop, created["payment_id"], "canceled")


NEW = {"user_id": "user_123", "amount": 999}


@pytest.mark.shop(settings={"abandon_after_seconds": 3600})
async def test_payment_that_was_given_up_is_not_handed_out_by_a_repeat(shop: Shop) -> None:
    shop.stripe.faults.add(
        "error_before", path="^/v1/payment_intents$", status=503, headers=GIVE_UP
    )
    refused(await shop.post("/create-payment-intent", NEW, key="cart-7"), 502, "stripe_error")
    await shop.reconcile(hours=2)

    for _ in range(2):
        refused(
            await shop.post("/create-payment-intent", NEW, key="cart-7"),
            409,
            "payment_not_confirmable",
        )

    (stored,) = await shop.stored("payments")
    await assert_no_order(shop, stored["_id"], "canceled")
    assert shop.stripe.payment_intents.list({})["data"] == []
    assert ok(await shop.post("/create-payment-intent", NEW, key="cart-8"))["status"] == "pending"


async def test_payment_that_was_given_up_while_stripe_was_asked_is_canceled_there() -> None:
    faults = DatabaseFaults()
    options = ShopOptions(settings={"abandon_after_seconds": 3600}, connect=faulty(faults))
    async with open_shop(options) as shop:
        # Stripe has answered, and its id is about to be saved.
        pause = faults.pause("update_one", collection="payments")
        request = asyncio.create_task(shop.post("/create-payment-intent", NEW, key="cart-7"))
        await pause.reached()
        await shop.reconcile(hours=2)
        (intent,) = shop.stripe.payment_intents.list({})["data"]
        assert intent["status"] == "requires_payment_method"
        pause.go_on()

        refused(await request, 409, "payment_not_confirmable")

        (intent,) = shop.stripe.payment_intents.list({})["data"]
        assert intent["status"] == "canceled"
        await shop.stripe.webhooks.drain()
        (stored,) = await shop.stored("payments")
        await assert_no_order(shop, stored["_id"], "canceled")
        assert "reconcile_at" not in stored


async def die_before_a_decline_is_recorded(
    shop: Shop, faults: DatabaseFaults, created: dict[str, Any]
) -> None:
    """The attempt is declined at Stripe; the process dies as it hears of it."""
    attempted = faults.pause("update_one", collection="payments")
    declined = faults.pause("update_one", collection="payments")
    request = asyncio.create_task(
        shop.confirm(created, "pm_card_visa_chargeDeclined", key="attempt-1")
    )
    await attempted.reached()
    attempted.go_on()
    await declined.reached()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert (await shop.stored_payment(created["payment_id"]))["status"] == "pending"
    shop.clock.advance(seconds=31)


@pytest.mark.parametrize("heard_of", [True, False], ids=["heard_of", "unheard_of"])
async def test_old_decline_that_stripe_replays_leaves_a_bank_debit_under_way(
    heard_of: bool,
) -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        await die_before_a_decline_is_recorded(shop, faults, created)
        if heard_of:
            (event,) = shop.events("payment_intent.payment_failed")
            ok(await shop.deliver(event))
            await assert_no_order(shop, created["payment_id"], "failed")
        await shop.confirm_in_browser(created, "pm_usBankAccount")
        assert ok(await shop.confirm(created))["status"] == "processing"
        before = await shop.transitions(created["payment_id"])

        answer = await shop.confirm(created, "pm_card_visa_chargeDeclined", key="attempt-1")

        refused(answer, 402, "card_declined")
        await assert_no_order(shop, created["payment_id"], "processing")
        assert await shop.transitions(created["payment_id"]) == before
        shop.stripe.settle(created["payment_intent_id"])
        await shop.reconcile(minutes=2)
        await assert_one_order(shop, created["payment_id"])
        assert await shop.transitions(created["payment_id"]) == [
            *before,
            ("processing", "succeeded"),
        ]


async def test_old_decline_that_stripe_replays_leaves_a_paid_payment_paid() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        await die_before_a_decline_is_recorded(shop, faults, created)
        await shop.confirm_in_browser(created, "pm_card_visa")
        assert ok(await shop.confirm(created))["status"] == "succeeded"

        answer = await shop.confirm(created, "pm_card_visa_chargeDeclined", key="attempt-1")

        assert ok(answer)["status"] == "succeeded"
        await assert_one_order(shop, created["payment_id"])
        assert await shop.transitions(created["payment_id"]) == SUCCEEDED


async def test_payment_intent_of_another_system_is_neither_confirmed_nor_shown(shop: Shop) -> None:
    stranger = shop.stripe.payment_intents.create({"amount": 500, "currency": "usd"})
    await shop.stripe.webhooks.drain()
    shop.stripe.requests.clear()

    for payment_method in (None, "pm_card_visa"):
        answer = await shop.confirm({"payment_intent_id": stranger["id"]}, payment_method)
        refused(answer, 404, "payment_not_found")
    refused(await shop.get(f"/payment/{stranger['id']}"), 404, "payment_not_found")

    assert len(shop.stripe.requests) == 0
    assert await shop.stored("payments") == []


# What Stripe is asked


def holds(params: Any, name: str) -> bool:
    """Whether ``name`` is a parameter, at whatever depth."""
    if isinstance(params, dict):
        return name in params or any(holds(value, name) for value in params.values())
    return isinstance(params, list) and any(holds(value, name) for value in params)


@pytest.mark.shop(settings={"deployment_name": "suite"})
async def test_stripe_is_asked_for_our_amount_under_keys_of_our_own_records(shop: Shop) -> None:
    created = ok(
        await shop.post(
            "/create-payment-intent",
            {
                "user_id": "user_123",
                "amount": 1299,
                "currency": "EUR",
                "metadata": {"campaign": "autumn"},
            },
        )
    )
    ok(await shop.confirm(created, "pm_card_visa"))

    (create,) = shop.stripe.requests.matching("POST", "^/v1/payment_intents$")
    assert create.idempotency_key == f"payment_intent:{created['payment_id']}"
    assert int(create.params["amount"]) == 1299
    assert create.params["currency"] == created["currency"] == "eur"
    assert create.params["metadata"] == {
        "campaign": "autumn",
        "payment_id": created["payment_id"],
        "user_id": "user_123",
        "deployment": "suite",
    }
    (confirm,) = shop.stripe.requests.matching("POST", "/confirm$")
    confirmation_id = (await shop.stored_payment(created["payment_id"]))["confirmation_id"]
    assert confirm.idempotency_key == f"confirm:{confirmation_id}"
    assert confirm.params["return_url"] == "http://localhost:5173/checkout/success"
    assert not any(
        holds(request.params, "payment_method_types") for request in shop.stripe.requests
    )


async def test_each_attempt_has_a_key_of_its_own_and_a_repeated_attempt_keeps_it(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    declined = "pm_card_visa_chargeDeclined"
    # Neither the SDK's first try nor its two retries get through.
    shop.stripe.faults.add("drop_before", path="/confirm$", times=3)
    refused(await shop.confirm(created, declined, key="first"), 502, "stripe_error")

    refused(await shop.confirm(created, declined, key="first"), 402, "card_declined")
    refused(await shop.confirm(created, declined, key="second"), 402, "card_declined")

    keys = [request.idempotency_key for request in shop.stripe.requests.matching("POST", "confirm")]
    *first, second = keys
    assert len(first) == 4
    assert len(set(first)) == 1
    assert second not in first
    assert len(shop.events("charge.failed")) == 2


async def test_attempt_whose_answer_was_lost_is_not_made_again(shop: Shop) -> None:
    created = await shop.create_intent()
    lost = shop.stripe.faults.add("drop_after", path="/confirm$")

    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()

    assert lost.hits == 1
    assert len(shop.events("charge.succeeded")) == 1
    await assert_one_order(shop, created["payment_id"])


# What is handed through to Stripe


async def test_receipt_address_and_description_are_handed_to_stripe_and_not_kept(
    shop: Shop,
) -> None:
    body = {
        "user_id": "user_123",
        "amount": 999,
        "receipt_email": " ada@example.com ",
        "description": "Order 17: Dune",
    }
    created = ok(await shop.post("/create-payment-intent", body))

    intent = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
    assert intent["receipt_email"] == "ada@example.com"
    assert intent["description"] == "Order 17: Dune"
    stored = await shop.stored_payment(created["payment_id"])
    assert "ada@example.com" not in str(stored)
    assert "elements" not in stored


async def test_what_was_handed_through_is_the_same_when_stripe_is_asked_again() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        body = {"user_id": "user_123", "amount": 999, "receipt_email": "ada@example.com"}
        # Stripe has made it, and its id is not recorded.
        faults.add("update_one", collection="payments")
        assert (await shop.post("/create-payment-intent", body, key="buy-1")).status_code == 503
        (stored,) = await shop.stored("payments")
        assert stored["elements"] == {"receipt_email": "ada@example.com"}

        # By the reconciler, which has only the record to go by.
        assert not (await shop.reconcile(minutes=2)).failed

        (intent,) = shop.stripe.payment_intents.list({})["data"]
        assert intent["receipt_email"] == "ada@example.com"
        assert "ada@example.com" not in str(await shop.stored("payments"))
        again = ok(await shop.post("/create-payment-intent", body, key="buy-1"))
        assert again["payment_intent_id"] == intent["id"]


async def test_a_payment_that_is_canceled_before_stripe_had_it_forgets_the_address(
    shop: Shop,
) -> None:
    body = {"user_id": "user_123", "amount": 999, "receipt_email": "ada@example.com"}
    shop.stripe.faults.add("error_before", path="^/v1/payment_intents$", headers=GIVE_UP)
    assert (await shop.post("/create-payment-intent", body)).status_code == 502
    (stored,) = await shop.stored("payments")

    ok(await shop.post(f"/payment/{stored['_id']}/cancel", {}))

    assert "ada@example.com" not in str(await shop.stored("payments"))


# Held, repeated, and cut short


async def test_a_payment_that_is_held_for_review_is_not_charged_again(shop: Shop) -> None:
    created = await shop.create_intent()
    other = shop.stripe.payment_intents.create(
        {"amount": 999, "currency": "usd", "metadata": {"payment_id": created["payment_id"]}}
    )
    await shop.confirm_in_browser(
        {"payment_intent_id": other["id"], "client_secret": other["client_secret"]}
    )
    await shop.stripe.webhooks.drain()
    assert (await shop.stored_payment(created["payment_id"]))["review"]["reason"] == "paid_twice"

    problem = refused(await shop.confirm(created, "pm_card_visa"), 409, "payment_not_confirmable")

    assert problem["held"] is True
    intent = shop.stripe.payment_intents.named(created["payment_intent_id"])
    assert intent.status == "requires_payment_method"


@pytest.mark.parametrize(
    ("payment_method", "currency"),
    [("pm_oxxo", "mxn"), ("pm_card_threeDSecure2Required", "usd"), ("pm_usBankAccount", "usd")],
)
async def test_a_repeated_confirmation_does_not_bring_back_what_has_failed_since(
    shop: Shop, payment_method: str, currency: str
) -> None:
    body = {"user_id": "user_123", "amount": 2000, "currency": currency}
    created = ok(await shop.post("/create-payment-intent", body))
    ok(await shop.confirm(created, payment_method, key="try-1"))
    # As if the process had died before it stored its answer.
    await shop.databases.payments["idempotency_keys"].update_many(
        {}, {"$unset": {"status_code": "", "body": ""}}
    )
    if "threeDSecure" in payment_method:
        shop.stripe.authenticate(created["payment_intent_id"], approve=False)
    else:
        shop.stripe.settle(created["payment_intent_id"], "failed")
    await shop.stripe.webhooks.drain()
    failed = await shop.payment(created["payment_id"])
    assert failed["status"] == "failed"
    shop.clock.advance(seconds=31)

    reply = ok(await shop.confirm(created, payment_method, key="try-1"))

    assert (reply["status"], reply["requires_action"]) == ("failed", False)
    assert (await shop.payment(created["payment_id"]))["failure"] == failed["failure"]


async def test_a_hint_of_stripes_that_is_no_time_is_no_hint(shop: Shop) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created, "pm_card_threeDSecure2Required")
    intent = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
    intent["next_action"] = {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"expires_at": "2026-12-01T00:00:00Z", "qr_code": "none"},
    }

    assert ok(await shop.confirm(created))["requires_action"]
