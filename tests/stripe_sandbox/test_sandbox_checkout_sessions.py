"""https://docs.stripe.com/api/checkout/sessions"""

import time
from typing import Any

import pytest
import stripe


async def test_a_new_session_is_open_and_has_no_intent_yet(rig: Any) -> None:
    session = await rig.session(client_reference_id="user-7", metadata={"payment_id": "p1"})
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert session.payment_intent is None
    assert (session.amount_subtotal, session.amount_total, session.currency) == (3000, 3000, "usd")
    assert session.url == f"{rig.url}/c/pay/{session.id}"
    assert session.id.startswith("cs_test_")
    assert session.client_secret is None
    assert session.client_reference_id == "user-7"
    assert session.expires_at - session.created == 24 * 3600
    assert "line_items" not in session
    assert rig.sandbox.events.types() == []


async def test_paying_makes_the_intent_and_completes_the_session(rig: Any) -> None:
    session = await rig.session(
        metadata={"of": "session"},
        payment_intent_data={"metadata": {"of": "intent"}, "description": "Books"},
    )
    payment = rig.sandbox.pay_session(session.id, email="jenny@example.com")
    assert payment.outcome == "complete"
    assert payment.redirect_url == f"https://shop.example/ok?session_id={session.id}"
    paid = await rig.client.v1.checkout.sessions.retrieve_async(
        session.id, {"expand": ["payment_intent.latest_charge", "line_items"]}
    )
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert paid.customer_details.email == "jenny@example.com"
    assert paid.success_url.endswith("{CHECKOUT_SESSION_ID}")
    intent = paid.payment_intent
    assert (intent.status, intent.amount, intent.description) == ("succeeded", 3000, "Books")
    assert intent.metadata.to_dict() == {"of": "intent"}
    assert intent.latest_charge.metadata.to_dict() == {"of": "intent"}
    assert paid.line_items.data[0].description == "A tale of two cities"
    assert rig.sandbox.events.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    completed = rig.sandbox.events.all("checkout.session.completed")[0]
    assert completed["request"] == {"id": None, "idempotency_key": None}
    assert completed["data"]["object"]["payment_intent"] == intent.id


async def test_a_decline_keeps_the_session_open_and_its_intent(rig: Any) -> None:
    session = await rig.session()
    declined = rig.sandbox.pay_session(session.id, "pm_card_chargeDeclined")
    assert declined.outcome == "declined"
    assert declined.error is not None
    assert declined.error["decline_code"] == "generic_decline"
    assert declined.session["status"] == "open"
    assert declined.session["customer_details"] is None
    intent_id = declined.session["payment_intent"]
    paid = rig.sandbox.pay_session(session.id)
    assert paid.session["payment_intent"] == intent_id
    assert rig.sandbox.events.types() == [
        "charge.failed",
        "payment_intent.created",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


async def test_three_d_secure_completes_the_session_once_approved(rig: Any) -> None:
    session = await rig.session()
    payment = rig.sandbox.pay_session(session.id, "pm_card_threeDSecure2Required")
    assert payment.outcome == "requires_action"
    assert rig.data(session.id)["status"] == "open"
    rig.sandbox.authenticate(payment.session["payment_intent"], approve=True)
    assert rig.data(session.id)["payment_status"] == "paid"


@pytest.mark.parametrize("action", ["confirm", "cancel"])
async def test_the_intent_of_a_session_is_not_confirmed_or_canceled_directly(
    rig: Any, action: str
) -> None:
    session = await rig.session()
    declined = rig.sandbox.pay_session(session.id, "pm_card_chargeDeclined")
    intent_id = declined.session["payment_intent"]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await getattr(rig.client.v1.payment_intents, f"{action}_async")(intent_id)
    assert refused.value.code == "payment_intent_unexpected_state"
    assert rig.data(intent_id)["status"] == "requires_payment_method"


async def test_expiring_closes_an_open_session_and_its_intent(rig: Any) -> None:
    session = await rig.session()
    declined = rig.sandbox.pay_session(session.id, "pm_card_chargeDeclined")
    expired = await rig.client.v1.checkout.sessions.expire_async(session.id)
    assert (expired.status, expired.payment_status, expired.url) == ("expired", "unpaid", None)
    assert rig.data(declined.session["payment_intent"])["status"] == "canceled"
    assert rig.sandbox.events.types()[-1] == "checkout.session.expired"


@pytest.mark.parametrize("status", ["complete", "expired"])
async def test_only_open_sessions_expire(rig: Any, status: str) -> None:
    session = await rig.session()
    if status == "complete":
        rig.sandbox.pay_session(session.id)
    else:
        rig.sandbox.expire_session(session.id)
    before = len(rig.sandbox.events.all())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.checkout.sessions.expire_async(session.id)
    assert f"This Checkout Session has a status of `{status}`." in str(refused.value)
    assert len(rig.sandbox.events.all()) == before


async def test_a_session_expires_by_the_clock(rig: Any) -> None:
    session = await rig.session(expires_at=int(time.time()) + 1900)
    rig.sandbox.clock.advance(1800)
    assert rig.data(session.id)["status"] == "open"
    rig.sandbox.clock.advance(200)
    assert rig.data(session.id)["status"] == "expired"
    event = rig.sandbox.events.all("checkout.session.expired")[0]
    assert event["created"] == session.expires_at


async def test_a_paid_session_does_not_expire(rig: Any) -> None:
    session = await rig.session()
    rig.sandbox.pay_session(session.id)
    rig.sandbox.clock.advance(25 * 3600)
    assert rig.data(session.id)["status"] == "complete"
    assert rig.sandbox.events.all("checkout.session.expired") == []


@pytest.mark.parametrize("lifetime", [60, 29 * 60, 24 * 3600 + 60])
async def test_the_lifetime_is_between_30_minutes_and_24_hours(rig: Any, lifetime: int) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.session(expires_at=int(time.time()) + lifetime)
    assert refused.value.param == "expires_at"


async def test_a_total_below_the_minimum_is_refused_without_a_param(
    rig: Any, line_item: Any
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.session(line_items=[line_item(20, 2)])
    assert (refused.value.code, refused.value.param) == ("amount_too_small", None)
    assert "total amount must convert to at least 50 cents" in str(refused.value)


async def test_a_total_of_nothing_completes_without_a_payment(rig: Any, line_item: Any) -> None:
    session = await rig.session(line_items=[line_item(0, 1)])
    payment = rig.sandbox.pay_session(session.id)
    assert (payment.session["status"], payment.session["payment_status"]) == (
        "complete",
        "no_payment_required",
    )
    assert payment.session["payment_intent"] is None
    assert rig.sandbox.events.types() == ["checkout.session.completed"]


async def test_items_of_two_currencies_are_refused(rig: Any, line_item: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.session(line_items=[line_item(), line_item(currency="eur")])
    assert "same currency" in str(refused.value)


async def test_a_hundred_items_are_the_most(rig: Any, line_item: Any) -> None:
    session = await rig.session(line_items=[line_item(100, 1) for _ in range(100)])
    assert session.amount_total == 10_000
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.session(line_items=[line_item(100, 1) for _ in range(101)])
    assert refused.value.param == "line_items"


async def test_line_items_are_listed_in_order_by_page(rig: Any, line_item: Any) -> None:
    session = await rig.session(line_items=[line_item(100 * n, 1) for n in range(1, 13)])
    listing = rig.client.v1.checkout.sessions.line_items.list_async
    first = await listing(session.id)
    assert [item.amount_total for item in first.data] == [100 * n for n in range(1, 11)]
    assert first.has_more
    rest = await listing(session.id, {"starting_after": first.data[-1].id})
    assert [item.amount_total for item in rest.data] == [1100, 1200]
    assert not rest.has_more


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"mode": "subscription"}, "mode"),
        ({"ui_mode": "elements"}, "ui_mode"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"client_reference_id": "x" * 201}, "client_reference_id"),
        ({"customer_email": "nobody"}, "customer_email"),
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "line_items[0][price]"),
        ({"discounts": [{"coupon": "free"}]}, "discounts"),
        ({"payment_method_types": ["card"]}, "payment_method_types"),
        ({"payment_intent_data": {"statement_descriptor": "X"}}, "payment_intent_data"),
    ],
)
async def test_what_is_not_accepted_is_named(rig: Any, params: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.session(**params)
    assert refused.value.http_status == 400
    assert (refused.value.param or "").startswith(param)


async def test_sessions_are_found_by_intent_status_and_email(rig: Any) -> None:
    paid, other = await rig.session(), await rig.session(customer_email="a@example.com")
    intent_id = rig.sandbox.pay_session(paid.id).session["payment_intent"]
    listing = rig.client.v1.checkout.sessions.list_async
    assert [s.id for s in (await listing({"payment_intent": intent_id})).data] == [paid.id]
    assert [s.id for s in (await listing({"status": "open"})).data] == [other.id]
    by_email = await listing({"customer_details": {"email": "a@example.com"}})
    assert [s.id for s in by_email.data] == [other.id]


async def test_an_unknown_session_is_404(rig: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.checkout.sessions.retrieve_async("cs_test_unknown")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
