"""Vouchers, bank transfers and bank debits that wait for microdeposits: the shopper has tried and
the money may come in days. Such a payment is processing, and only Stripe ends it.
"""

from typing import Any

import pytest

from tests.support.shop import Shop, book, ok

Document = dict[str, Any]

METHODS = {
    "OXXO": ("mxn", "pm_oxxo"),
    "Boleto": ("brl", "pm_boleto"),
    "Konbini": ("jpy", "pm_konbini"),
    "Multibanco": ("eur", "pm_multibanco"),
    "microdeposits": ("usd", "pm_usBankAccount_microdeposits"),
}

every_method = pytest.mark.parametrize(
    ("currency", "payment_method"), METHODS.values(), ids=METHODS
)


async def submit(shop: Shop, currency: str, payment_method: str) -> Document:
    """With Elements; the reply of create-payment-intent."""
    body = {"user_id": "user_123", "amount": 2000, "currency": currency}
    created = ok(await shop.post("/create-payment-intent", body))
    answer = await shop.confirm_in_browser(created, payment_method)
    assert answer.json()["status"] == "requires_action", answer.text
    await shop.stripe.webhooks.drain()
    return created


async def status(shop: Shop, created: Document) -> str:
    found: str = (await shop.payment(created["payment_id"]))["status"]
    return found


def at_stripe(shop: Shop, created: Document) -> Document:
    data: Document = shop.stripe.payment_intents.named(created["payment_intent_id"]).data
    return data


@every_method
async def test_a_submitted_delayed_method_is_processing(
    shop: Shop, currency: str, payment_method: str
) -> None:
    created = await submit(shop, currency, payment_method)
    assert await status(shop, created) == "processing"


@every_method
@pytest.mark.shop(webhooks=False)
async def test_it_is_found_to_be_processing_without_its_event(
    shop: Shop, currency: str, payment_method: str
) -> None:
    created = await submit(shop, currency, payment_method)
    assert await status(shop, created) == "pending"

    asked = ok(await shop.confirm(created))

    assert (asked["status"], asked["stripe_status"]) == ("processing", "requires_action")
    assert asked["requires_action"], "the shopper has yet to pay the voucher, say"
    assert asked["client_secret"], "with which Stripe.js shows it again"


@every_method
async def test_it_is_not_canceled_as_abandoned_and_becomes_an_order_when_the_money_comes(
    shop: Shop, currency: str, payment_method: str
) -> None:
    created = await submit(shop, currency, payment_method)
    for _ in range(5):
        assert not (await shop.reconcile(hours=13)).failed
    assert await status(shop, created) == "processing"
    assert at_stripe(shop, created)["status"] == "requires_action"

    shop.stripe.settle(created["payment_intent_id"], "succeeded")
    await shop.stripe.webhooks.drain()

    assert await status(shop, created) == "succeeded"
    assert len(await shop.orders()) == 1


@every_method
@pytest.mark.shop(webhooks=False)
async def test_money_that_comes_after_days_is_found_without_webhooks(
    shop: Shop, currency: str, payment_method: str
) -> None:
    created = await submit(shop, currency, payment_method)
    assert not (await shop.reconcile(hours=50)).failed
    shop.stripe.settle(created["payment_intent_id"], "succeeded")

    assert not (await shop.reconcile(hours=7)).failed

    assert await status(shop, created) == "succeeded"
    assert len(await shop.orders()) == 1


@every_method
async def test_one_that_stripe_ended_has_failed_and_is_then_canceled(
    shop: Shop, currency: str, payment_method: str
) -> None:
    created = await submit(shop, currency, payment_method)
    shop.later(days=12)
    if at_stripe(shop, created)["status"] == "requires_action":
        shop.stripe.settle(created["payment_intent_id"], "failed")
    await shop.stripe.webhooks.drain()
    assert await status(shop, created) == "failed"

    assert not (await shop.reconcile(minutes=2)).failed

    assert await status(shop, created) == "canceled"
    assert at_stripe(shop, created)["status"] == "canceled"
    assert await shop.orders() == []


async def test_a_transfer_that_never_comes_waits_until_its_owner_cancels_it(shop: Shop) -> None:
    created = ok(await shop.post("/create-payment-intent", {"user_id": "user_123", "amount": 2000}))
    # A bank transfer needs a customer, whom the shop has made in its Stripe account.
    customer = shop.stripe.customers.create({"email": "ada@example.com"})
    shop.stripe.payment_intents.update({"customer": customer["id"]}, created["payment_intent_id"])
    answer = await shop.confirm_in_browser(created, "pm_customerBalance")
    assert answer.json()["next_action"]["type"] == "display_bank_transfer_instructions"
    await shop.stripe.webhooks.drain()
    for _ in range(30):
        await shop.reconcile(days=3)
    assert await status(shop, created) == "processing"

    canceled = ok(await shop.post(f"/payment/{created['payment_id']}/cancel", {}))

    assert canceled["status"] == "canceled"
    assert at_stripe(shop, created)["status"] == "canceled"


async def test_a_voucher_gives_way_to_a_card(shop: Shop) -> None:
    created = await submit(shop, "mxn", "pm_oxxo")

    ok(await shop.confirm(created, "pm_card_visa"))

    assert await status(shop, created) == "succeeded"
    assert len(await shop.orders()) == 1


async def test_a_voucher_given_up_for_a_card_that_then_asked_for_3d_secure_is_abandoned(
    shop: Shop,
) -> None:
    created = await submit(shop, "mxn", "pm_oxxo")
    ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))

    assert not (await shop.reconcile(hours=25)).failed

    assert await status(shop, created) == "canceled"


@pytest.mark.parametrize("expires_in", [-60, 60])
async def test_a_way_to_pay_that_stripe_lets_expire_is_abandoned_no_sooner(
    shop: Shop, expires_in: int
) -> None:
    """A QR code say, of a kind that this version does not know."""
    created = await shop.create_intent()
    shop.later(hours=25)
    expires_at = int(shop.stripe.clock.timestamp()) + expires_in
    at_stripe(shop, created).update(
        status="requires_action",
        next_action={
            "type": "scan_qr_code",
            "scan_qr_code": {"qr_code": {"expires_at": expires_at}},
        },
    )

    assert not (await shop.reconcile()).failed

    assert await status(shop, created) == ("pending" if expires_in > 0 else "canceled")


@pytest.mark.parametrize("currency", ["mxn", "eur", "brl", "jpy"])
async def test_a_voucher_of_a_page_is_processing_until_it_is_paid(
    shop: Shop, currency: str
) -> None:
    method = dict(METHODS.values())[currency]
    session = await shop.create_session(items=[book(price_cents=2000)], currency=currency)
    shop.stripe.pay_session(session["session_id"], method)
    await shop.stripe.webhooks.drain()
    for _ in range(5):
        assert not (await shop.reconcile(hours=13)).failed
    payment = await shop.payment(session["payment_id"])
    assert payment["status"] == "processing"

    shop.stripe.settle(payment["stripe_payment_intent_id"], "succeeded")
    await shop.stripe.webhooks.drain()

    assert (await shop.payment(session["payment_id"]))["status"] == "succeeded"
