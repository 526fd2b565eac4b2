"""The ways to pay as Stripe's documentation promises them, on whichever Stripe there is: with
STRIPE_TEST_KEY (`make test-stripe`) Stripe's own test mode, otherwise our sandbox. Every assertion
is made of both: what holds of one and not of the other is a mistake of the sandbox.

https://docs.stripe.com/testing
"""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from pydantic import SecretStr

from app.domain.cart import CartItem
from app.domain.ids import new_id
from app.domain.payments import CheckoutDetails, Payment, PaymentFlow, PaymentStatus
from app.domain.refunds import Refund, RefundStatus
from app.errors import AmountTooSmall, StripeFailed
from app.gateways.payments import (
    AttemptDeclined,
    IntentSnapshot,
    PaymentGateway,
    StripeObjectMissing,
    StripeRefused,
)
from app.gateways.stripe import open_stripe_gateway
from app.metrics import Metrics
from app.settings import Settings
from stripe_sandbox import Sandbox, SandboxConfig, serve

TEST_KEY: Final = os.environ.get("STRIPE_TEST_KEY", "")
PAGE: Final = "http://localhost:5173/checkout"


@contextlib.asynccontextmanager
async def opened(base: str, key: str) -> AsyncIterator[PaymentGateway]:
    assert key.startswith(("sk_test_", "rk_test_")), "only ever a key of test mode"
    settings = Settings(_env_file=None, stripe_secret_key=SecretStr(key), stripe_api_base=base)
    metrics = Metrics(version="0", stripe_mode="test")
    async with open_stripe_gateway(settings, metrics, deployment="test") as gateway:
        yield gateway


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """Empty: Stripe itself."""
    if TEST_KEY:
        yield ""
    else:
        async with serve(Sandbox(SandboxConfig(balance_transaction_seconds=0.01))) as url:
            yield url


@pytest.fixture
async def stripe(base: str) -> AsyncIterator[PaymentGateway]:
    async with opened(base, TEST_KEY or "sk_test_sandbox") as gateway:
        yield gateway


def payment(**fields: Any) -> Payment:
    now = datetime.now(UTC)
    return Payment(
        **{
            "payment_id": new_id("pay_"),
            "user_id": "user_123",
            "flow": PaymentFlow.PAYMENT_INTENT,
            "status": PaymentStatus.PENDING,
            "amount": 1999,
            "currency": "usd",
            "items": (CartItem("dune", 1, 1999, 1, "Dune"),),
            "metadata": {"campaign": "spring"},
            "created_at": now,
            "updated_at": now,
            **fields,
        }
    )


def refund(amount: int, reason: str | None = None) -> Refund:
    now = datetime.now(UTC)
    return Refund(
        new_id("rfd_"),
        amount,
        0,
        RefundStatus.PENDING,
        reason=reason,
        created_at=now,
        updated_at=now,
    )


async def confirm(
    stripe: PaymentGateway, intent: IntentSnapshot, payment_method: str | None
) -> IntentSnapshot:
    return await stripe.confirm_payment_intent(
        intent.stripe_payment_intent_id,
        payment_method=payment_method,
        confirmation_id=new_id("cnf_"),
    )


async def paid(stripe: PaymentGateway, **fields: Any) -> Payment:
    made = payment(**fields)
    intent = await stripe.create_payment_intent(made)
    assert (await confirm(stripe, intent, "pm_card_visa")).status == "succeeded"
    return dataclasses.replace(made, stripe_payment_intent_id=intent.stripe_payment_intent_id)


# Cards


@pytest.mark.parametrize(
    "payment_method",
    ["pm_card_visa", "pm_card_visa_debit", "pm_card_mastercard", "pm_card_amex"],
)
async def test_card_pays(stripe: PaymentGateway, payment_method: str) -> None:
    made = payment()
    intent = await stripe.create_payment_intent(made)
    assert intent.status == "requires_payment_method"
    assert intent.stripe_payment_intent_id.startswith("pi_")
    assert intent.client_secret is not None
    assert intent.client_secret.startswith(f"{intent.stripe_payment_intent_id}_secret_")
    assert (intent.amount, intent.amount_received, intent.currency) == (1999, 0, "usd")
    assert intent.payment_id == made.payment_id

    after = await confirm(stripe, intent, payment_method)
    assert (after.status, after.amount_received) == ("succeeded", 1999)
    assert after.stripe_attempt_id is not None
    assert after.stripe_attempt_id.startswith("ch_")
    assert after.failure is None
    again = await stripe.retrieve_payment_intent(intent.stripe_payment_intent_id)
    assert (again.status, again.payment_id) == ("succeeded", made.payment_id)


@pytest.mark.parametrize(
    ("payment_method", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
    ],
)
async def test_declined_card_says_why_and_another_card_pays(
    stripe: PaymentGateway, payment_method: str, code: str, decline_code: str | None
) -> None:
    intent = await stripe.create_payment_intent(payment())
    with pytest.raises(AttemptDeclined) as declined:
        await confirm(stripe, intent, payment_method)
    failure = declined.value.failure
    assert failure.code == code
    if decline_code is not None:
        assert failure.decline_code == decline_code
    assert failure.message
    after = declined.value.intent
    assert after is not None
    assert after.status == "requires_payment_method"
    assert after.failed_attempt is not None
    assert after.failed_attempt.startswith("ch_")

    assert (await confirm(stripe, intent, "pm_card_visa")).status == "succeeded"


async def test_card_that_wants_its_owner_waits_for_the_owner(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment())
    after = await confirm(stripe, intent, "pm_card_threeDSecure2Required")
    assert after.status == "requires_action"
    assert after.amount_received == 0
    assert after.client_secret is not None


async def test_yen_have_no_cents(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment(amount=500, currency="jpy"))
    after = await confirm(stripe, intent, "pm_card_visa")
    assert (after.status, after.amount_received, after.currency) == ("succeeded", 500, "jpy")


async def test_given_up_intent_is_canceled_and_takes_no_card(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment())
    canceled = await stripe.cancel_payment_intent(
        intent.stripe_payment_intent_id, reason="abandoned"
    )
    assert canceled.status == "canceled"
    with pytest.raises(StripeRefused) as refusal:
        await confirm(stripe, intent, "pm_card_visa")
    assert refusal.value.stripe_code == "payment_intent_unexpected_state"


async def test_paid_intent_cannot_be_canceled_or_paid_again(stripe: PaymentGateway) -> None:
    intent_id = (await paid(stripe)).stripe_payment_intent_id or ""
    with pytest.raises(StripeRefused) as refusal:
        await stripe.cancel_payment_intent(intent_id, reason="abandoned")
    assert refusal.value.stripe_code == "payment_intent_unexpected_state"
    with pytest.raises(StripeRefused) as refusal:
        await stripe.confirm_payment_intent(
            intent_id, payment_method="pm_card_visa", confirmation_id=new_id("cnf_")
        )
    assert refusal.value.stripe_code == "payment_intent_unexpected_state"


# Checkout


def by_checkout() -> Payment:
    success = f"{PAGE}/success?session_id={{CHECKOUT_SESSION_ID}}"
    details = CheckoutDetails(success, f"{PAGE}/cancel", "anna@example.com")
    return payment(flow=PaymentFlow.CHECKOUT_SESSION, checkout=details)


async def test_checkout_session_is_made_and_expires_once(stripe: PaymentGateway) -> None:
    made = by_checkout()
    session = await stripe.create_checkout_session(made)
    assert session.stripe_checkout_session_id.startswith("cs_test_")
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.currency) == (1999, "usd")
    assert session.payment_id == made.payment_id
    assert session.stripe_payment_intent_id is None
    assert session.url is not None
    assert session.url.startswith("http")

    expired = await stripe.expire_checkout_session(session.stripe_checkout_session_id)
    assert (expired.status, expired.payment_status) == ("expired", "unpaid")
    again = await stripe.retrieve_checkout_session(session.stripe_checkout_session_id)
    assert again.status == "expired"
    with pytest.raises(StripeRefused):
        await stripe.expire_checkout_session(session.stripe_checkout_session_id)


# Refunds


async def test_payment_is_refunded_in_two_parts_and_no_further(stripe: PaymentGateway) -> None:
    one = await paid(stripe)
    first = await stripe.create_refund(one, refund(500, "requested_by_customer"))
    assert (first.status, first.amount) == (RefundStatus.SUCCEEDED, 500)
    assert first.reason == "requested_by_customer"
    assert first.payment_id == one.payment_id
    assert first.stripe_payment_intent_id == one.stripe_payment_intent_id
    with pytest.raises(StripeRefused):
        await stripe.create_refund(one, refund(1500))
    rest = await stripe.create_refund(one, refund(1499, "the shopper changed their mind"))
    assert rest.status is RefundStatus.SUCCEEDED
    with pytest.raises(StripeRefused) as refusal:
        await stripe.create_refund(one, refund(1))
    assert refusal.value.stripe_code == "charge_already_refunded"

    listed = await stripe.list_refunds(one.stripe_payment_intent_id or "")
    assert {each.stripe_refund_id for each in listed} == {
        first.stripe_refund_id,
        rest.stripe_refund_id,
    }
    assert (await stripe.retrieve_refund(rest.stripe_refund_id)).amount == 1499


async def test_payment_that_was_not_made_cannot_be_refunded(stripe: PaymentGateway) -> None:
    made = payment()
    intent = await stripe.create_payment_intent(made)
    made = dataclasses.replace(made, stripe_payment_intent_id=intent.stripe_payment_intent_id)
    with pytest.raises(StripeRefused):
        await stripe.create_refund(made, refund(1999))


# Idempotency


async def test_the_same_payment_twice_is_one_intent(stripe: PaymentGateway) -> None:
    made = payment()
    first, second = [await stripe.create_payment_intent(made) for _ in range(2)]
    assert first.stripe_payment_intent_id == second.stripe_payment_intent_id


async def test_the_same_refund_twice_is_one_refund(stripe: PaymentGateway) -> None:
    one = await paid(stripe)
    wanted = refund(500)
    first, second = [await stripe.create_refund(one, wanted) for _ in range(2)]
    assert first.stripe_refund_id == second.stripe_refund_id
    assert len(await stripe.list_refunds(one.stripe_payment_intent_id or "")) == 1


async def test_the_same_attempt_twice_is_one_decline(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment())
    seen = []
    for _ in range(2):
        with pytest.raises(AttemptDeclined) as declined:
            await stripe.confirm_payment_intent(
                intent.stripe_payment_intent_id,
                payment_method="pm_card_visa_chargeDeclined",
                confirmation_id=intent.stripe_payment_intent_id,
            )
        assert declined.value.intent is not None
        seen.append(declined.value.intent.failed_attempt)
    assert seen[0] == seen[1]


async def test_a_known_key_with_another_amount_is_refused(stripe: PaymentGateway) -> None:
    made = payment()
    await stripe.create_payment_intent(made)
    with pytest.raises(StripeFailed) as refusal:
        await stripe.create_payment_intent(dataclasses.replace(made, amount=2000))
    assert "other parameters" in refusal.value.detail


# Errors


async def test_unknown_objects_are_missing(stripe: PaymentGateway) -> None:
    for ask in (
        stripe.retrieve_payment_intent("pi_3xxxxxxxxxxxxxxxxxxxxxxx"),
        stripe.retrieve_checkout_session("cs_test_xxxxxxxxxxxxxxxxxxx"),
        stripe.retrieve_refund("re_3xxxxxxxxxxxxxxxxxxxxxxx"),
    ):
        with pytest.raises(StripeObjectMissing) as missing:
            await ask
        assert missing.value.stripe_code == "resource_missing"


async def test_less_than_the_minimum_is_refused_as_such(stripe: PaymentGateway) -> None:
    with pytest.raises(AmountTooSmall):
        await stripe.create_payment_intent(payment(amount=1))


async def test_currency_that_does_not_exist_is_refused(stripe: PaymentGateway) -> None:
    with pytest.raises(StripeRefused) as refusal:
        await stripe.create_payment_intent(payment(currency="zzz"))
    assert refusal.value.param == "currency"


async def test_payment_method_that_does_not_exist_is_missing(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment())
    with pytest.raises(StripeObjectMissing) as missing:
        await confirm(stripe, intent, "pm_1xxxxxxxxxxxxxxxxxxxxxxx")
    assert missing.value.param == "payment_method"


async def test_confirmation_without_a_card_is_refused(stripe: PaymentGateway) -> None:
    intent = await stripe.create_payment_intent(payment())
    with pytest.raises(StripeRefused):
        await confirm(stripe, intent, None)


# Events


async def test_payment_is_found_among_the_events(stripe: PaymentGateway) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    one = await paid(stripe)
    async with asyncio.timeout(30):
        while True:
            pages = stripe.list_events(["payment_intent.succeeded"], since=since)
            found = [event async for page in pages for event in page]
            mine = [
                event.object
                for event in found
                if isinstance(event.object, IntentSnapshot)
                and event.object.payment_id == one.payment_id
            ]
            if mine:
                break
            await asyncio.sleep(0.5)
    (seen,) = mine
    assert seen.stripe_payment_intent_id == one.stripe_payment_intent_id
    assert (seen.status, seen.amount_received) == ("succeeded", 1999)
    assert not any(event.livemode for event in found)
