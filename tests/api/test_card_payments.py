"""Stripe Elements: from a request to an order."""

from tests.support.shop import Shop, ok


async def test_card_payment_confirmed_here_becomes_one_order(shop: Shop) -> None:
    created = await shop.create_intent(amount=1299)
    assert created["status"] == "pending"
    assert created["client_secret"].startswith(created["payment_intent_id"])

    confirmed = ok(
        await shop.post(
            "/confirm-payment",
            {
                "payment_intent_id": created["payment_intent_id"],
                "payment_method_id": "pm_card_visa",
            },
        )
    )
    await shop.stripe.webhooks.drain()

    assert confirmed["status"] == "succeeded"
    assert confirmed["client_secret"] is None
    payment = await shop.payment(created["payment_id"])
    assert payment["status"] == "succeeded"
    assert payment["order_id"] == confirmed["order_id"]
    assert [order["order_id"] for order in await shop.orders()] == [payment["order_id"]]
    stored = await shop.stored_payment(payment["payment_id"])
    assert "reconcile_at" not in stored, "a finished payment is at rest"
