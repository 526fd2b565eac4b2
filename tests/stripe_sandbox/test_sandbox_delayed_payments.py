"""Bank debits: the answer comes later (https://docs.stripe.com/payments/ach-direct-debit)."""

from typing import Any

import pytest

from stripe_sandbox import ApiError


async def test_a_debit_is_processing_until_the_bank_answers(rig: Any) -> None:
    intent = await rig.intent("pm_usBankAccount")
    assert (intent.status, intent.amount_received) == ("processing", 0)
    charge = rig.data(intent.latest_charge)
    assert (charge["status"], charge["paid"]) == ("pending", False)
    assert rig.sandbox.events.types() == [
        "payment_intent.created",
        "charge.pending",
        "payment_intent.processing",
    ]
    rig.sandbox.settle(intent.id)
    assert rig.data(intent.id)["status"] == "succeeded"
    assert rig.data(intent.id)["amount_received"] == 1000
    assert rig.data(charge["id"])["paid"] is True
    assert rig.sandbox.events.types()[-2:] == ["charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("pm_usBankAccount", "insufficient_funds"),
        ("pm_usBankAccount_accountClosed", "account_closed"),
    ],
)
async def test_a_debit_can_fail_later(rig: Any, method: str, code: str) -> None:
    intent = await rig.intent(method)
    rig.sandbox.settle(intent.id, "failed")
    failed = rig.data(intent.id)
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == code
    assert rig.data(intent.latest_charge)["failure_code"] == code
    assert rig.sandbox.events.types()[-2:] == ["charge.failed", "payment_intent.payment_failed"]


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("pm_usBankAccount", "succeeded"),
        ("pm_usBankAccount_accountClosed", "requires_payment_method"),
    ],
)
async def test_without_being_told_the_bank_answers_after_the_configured_delay(
    start: Any, method: str, status: str
) -> None:
    rig = await start(delayed_payment_seconds=300)
    intent = await rig.intent(method)
    rig.sandbox.clock.advance(299)
    assert rig.data(intent.id)["status"] == "processing"
    rig.sandbox.clock.advance(1)
    assert rig.data(intent.id)["status"] == status


async def test_the_delay_also_runs_in_real_time(start: Any) -> None:
    rig = await start(delayed_payment_seconds=0.02)
    intent = await rig.intent("pm_usBankAccount")
    await rig.eventually(lambda: rig.data(intent.id)["status"] == "succeeded")
    await rig.sandbox.webhooks.drain()
    assert "payment_intent.succeeded" in rig.receiver.types


async def test_a_settled_debit_is_not_settled_again(rig: Any) -> None:
    intent = await rig.intent("pm_usBankAccount")
    rig.sandbox.settle(intent.id)
    with pytest.raises(ApiError) as refused:
        rig.sandbox.settle(intent.id, "failed")
    assert refused.value.code == "payment_intent_unexpected_state"
    assert rig.data(intent.id)["status"] == "succeeded"


async def test_a_canceled_debit_is_never_settled(start: Any) -> None:
    rig = await start(delayed_payment_seconds=10)
    intent = await rig.intent("pm_usBankAccount")
    await rig.client.v1.payment_intents.cancel_async(intent.id)
    rig.sandbox.clock.advance(60)
    assert rig.data(intent.id)["status"] == "canceled"
    assert rig.data(intent.latest_charge)["status"] == "failed"
    assert rig.sandbox.events.types()[-1] == "payment_intent.canceled"


async def test_a_session_paid_by_debit_completes_unpaid_and_is_paid_later(rig: Any) -> None:
    session = await rig.session()
    payment = rig.sandbox.pay_session(session.id, "pm_usBankAccount")
    assert payment.outcome == "complete"
    assert (payment.session["status"], payment.session["payment_status"]) == ("complete", "unpaid")
    completed = rig.sandbox.events.all("checkout.session.completed")[0]
    rig.sandbox.settle(payment.session["payment_intent"])
    assert rig.data(session.id)["payment_status"] == "paid"
    assert rig.sandbox.events.types()[-3:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]
    assert completed["data"]["object"]["payment_status"] == "unpaid"


async def test_a_session_whose_debit_fails_stays_unpaid(rig: Any) -> None:
    session = await rig.session()
    payment = rig.sandbox.pay_session(session.id, "pm_usBankAccount_accountClosed")
    rig.sandbox.settle(payment.session["payment_intent"], "failed")
    assert (rig.data(session.id)["status"], rig.data(session.id)["payment_status"]) == (
        "complete",
        "unpaid",
    )
    assert rig.sandbox.events.types()[-2:] == [
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]
