"""Stripe promises no order of events: whatever order they come in, the end is the same."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.domain.orders import Order
from app.domain.refunds import RefundStatus
from app.repositories.database import PAYMENTS_DATABASE, Commands
from app.repositories.documents import payment_from_document
from app.repositories.orders import OrderRepository
from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, ok, open_shop

# Stripe sends nothing by itself: each test delivers the events in an order of its own.
pytestmark = pytest.mark.shop(webhooks=False)

Document = dict[str, Any]

LEGAL = {
    ("pending", "processing"),
    ("pending", "succeeded"),
    ("pending", "failed"),
    ("pending", "canceled"),
    ("processing", "succeeded"),
    ("processing", "failed"),
    ("processing", "canceled"),
    ("failed", "pending"),
    ("failed", "processing"),
    ("failed", "succeeded"),
    ("failed", "canceled"),
    ("succeeded", "partially_refunded"),
    ("succeeded", "refunded"),
    ("partially_refunded", "refunded"),
}


class Recorder:
    """The events that Stripe made since, of the types that matter, the oldest first."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._known = {event["id"] for event in shop.stripe.events.all()}

    def take(self, *types: str) -> list[Document]:
        """Exactly these types, in this order; the same type may come several times."""
        handled = set(self._shop.services.inbox.event_types)
        made = [
            event
            for event in self._shop.stripe.events.all()
            if event["id"] not in self._known and event["type"] in handled
        ]
        assert [event["type"] for event in made] == list(types)
        return made


async def deliver_all(shop: Shop, events: Sequence[Document]) -> None:
    for event in events:
        assert ok(await shop.deliver(event))["result"] in ("processed", "duplicate")


def shuffle(events: Sequence[Document], order: Sequence[int], number: int) -> list[Document]:
    """``order`` is a permutation of all but the last, which takes each place in turn: all orders
    of five events would take several times as long.
    """
    *others, last = events
    shuffled = [others[place] for place in order]
    shuffled.insert(number % len(events), last)
    return shuffled


async def assert_end(shop: Shop, payment_id: str, status: str, order: str | None) -> Document:
    """The payment's status, its one order or none, and a history that never jumped."""
    payment = await shop.payment(payment_id)
    assert payment["status"] == status
    orders = [o for o in await shop.stored("orders") if o["payment_id"] == payment_id]
    assert [o["status"] for o in orders] == ([order] if order else [])
    assert payment["order_id"] == (orders[0]["_id"] if orders else None)
    moves = await shop.transitions(payment_id)
    assert set(moves) <= LEGAL, moves
    path = ["pending", *(to for _, to in moves)]
    assert [before for before, _ in moves] == path[:-1], moves
    assert path[-1] == status
    assert all(before != after for before, after in pairwise(path))
    return payment


def in_order(events: Sequence[Document]) -> str:
    return ", ".join(event["type"] for event in events)


# Two events of one success


@pytest.mark.parametrize("how", ["as made", "reversed", "at once"])
async def test_a_paid_session_becomes_one_order_whichever_event_comes_first(
    shop: Shop, how: str
) -> None:
    session = await shop.create_session()
    recorder = Recorder(shop)
    shop.stripe.pay_session(session["session_id"])
    events = recorder.take("payment_intent.succeeded", "checkout.session.completed")
    if how == "at once":
        await asyncio.gather(*(deliver_all(shop, [event]) for event in events))
    else:
        await deliver_all(shop, events if how == "as made" else events[::-1])

    payment = await assert_end(shop, session["payment_id"], "succeeded", "paid")
    assert await shop.transitions(session["payment_id"]) == [("pending", "succeeded")]
    assert payment["stripe_payment_intent_id"] == events[0]["data"]["object"]["id"]
    assert "reconcile_at" not in await shop.stored_payment(session["payment_id"])


async def test_success_told_by_two_events_confirm_and_a_look_up_at_once_is_one_order(
    shop: Shop,
) -> None:
    session = await shop.create_session()
    recorder = Recorder(shop)
    shop.stripe.pay_session(session["session_id"])
    events = recorder.take("payment_intent.succeeded", "checkout.session.completed")

    await asyncio.gather(
        *(shop.deliver(event) for event in events),
        *(shop.get(f"/checkout-session/{session['session_id']}") for _ in range(3)),
        shop.services.reconciliation.run_once(),
    )

    await deliver_all(shop, events)
    await assert_end(shop, session["payment_id"], "succeeded", "paid")


# Every order of a payment's life


async def test_decline_second_try_success_and_refund_end_the_same_in_every_order(
    shop: Shop,
) -> None:
    for number, order in enumerate(permutations(range(4))):
        created = await shop.create_intent()
        recorder = Recorder(shop)
        await shop.confirm_in_browser(created, "pm_card_visa_chargeDeclined")
        await shop.confirm_in_browser(created, "pm_card_visa")
        intent_id = created["payment_intent_id"]
        refund = shop.stripe.dashboard_refund(payment_intent=intent_id, amount=400)
        events = recorder.take(
            "payment_intent.payment_failed",
            "payment_intent.succeeded",
            "refund.created",
            "charge.refunded",
            "refund.updated",
        )
        shuffled = shuffle(events, order, number)
        await deliver_all(shop, shuffled)

        told = in_order(shuffled)
        payment = await assert_end(
            shop, created["payment_id"], "partially_refunded", "partially_refunded"
        )
        assert payment["refunded_cents"] == 400, told
        assert payment["failure"] is None, told
        stored = await shop.stored_payment(created["payment_id"])
        assert [r["stripe_refund_id"] for r in stored["refunds"]] == [refund["id"]], told
        assert stored["refundable_amount"] == 599, told
        assert "reconcile_at" not in stored, told


async def test_a_bank_debit_that_failed_and_was_tried_again_succeeds_in_every_order(
    shop: Shop,
) -> None:
    for order in permutations(range(4)):
        created = await shop.create_intent()
        intent_id = created["payment_intent_id"]
        recorder = Recorder(shop)
        await shop.confirm_in_browser(created, "pm_usBankAccount")
        shop.stripe.settle(intent_id, "failed")
        await shop.confirm_in_browser(created, "pm_usBankAccount")
        shop.stripe.settle(intent_id, "succeeded")
        events = recorder.take(
            "payment_intent.processing",
            "payment_intent.payment_failed",
            "payment_intent.processing",
            "payment_intent.succeeded",
        )
        shuffled = [events[place] for place in order]
        await deliver_all(shop, shuffled)
        await assert_end(shop, created["payment_id"], "succeeded", "paid")


async def test_while_a_newer_attempt_is_processing_an_older_ones_failure_changes_nothing(
    shop: Shop,
) -> None:
    for order in permutations(range(3)):
        created = await shop.create_intent()
        recorder = Recorder(shop)
        await shop.confirm_in_browser(created, "pm_usBankAccount")
        shop.stripe.settle(created["payment_intent_id"], "failed")
        await shop.confirm_in_browser(created, "pm_usBankAccount")
        events = recorder.take(
            "payment_intent.processing",
            "payment_intent.payment_failed",
            "payment_intent.processing",
        )
        shuffled = [events[place] for place in order]
        newer = events[2]["data"]["object"]["latest_charge"]
        heard_of_newer = False
        for event in shuffled:
            await deliver_all(shop, [event])
            heard_of_newer = heard_of_newer or event is events[2]
            status = (await shop.payment(created["payment_id"]))["status"]
            if heard_of_newer:
                assert status == "processing", [e["data"]["object"]["status"] for e in shuffled]
        await assert_end(shop, created["payment_id"], "processing", None)

        # And the newer one's own failure does count.
        recorder = Recorder(shop)
        shop.stripe.settle(created["payment_intent_id"], "failed")
        failed = recorder.take("payment_intent.payment_failed")
        await deliver_all(shop, failed)
        await assert_end(shop, created["payment_id"], "failed", None)
        stored = await shop.stored_payment(created["payment_id"])
        assert newer in stored["failed_attempts"]


async def test_two_bank_debits_that_both_failed_end_failed_in_every_order(shop: Shop) -> None:
    for order in permutations(range(4)):
        created = await shop.create_intent()
        recorder = Recorder(shop)
        for _ in range(2):
            await shop.confirm_in_browser(created, "pm_usBankAccount")
            shop.stripe.settle(created["payment_intent_id"], "failed")
        events = recorder.take(*["payment_intent.processing", "payment_intent.payment_failed"] * 2)
        await deliver_all(shop, [events[place] for place in order])

        await assert_end(shop, created["payment_id"], "failed", None)
        stored = await shop.stored_payment(created["payment_id"])
        attempts = {event["data"]["object"]["latest_charge"] for event in events}
        assert set(stored["failed_attempts"]) == attempts, order


async def test_a_failed_attempt_does_not_become_processing_when_the_news_come_late(
    shop: Shop,
) -> None:
    created = await shop.create_intent()
    recorder = Recorder(shop)
    await shop.confirm_in_browser(created, "pm_usBankAccount")
    shop.stripe.settle(created["payment_intent_id"], "failed")
    processing, failed = recorder.take("payment_intent.processing", "payment_intent.payment_failed")

    await deliver_all(shop, [failed])
    before = await shop.stored_payment(created["payment_id"])
    await deliver_all(shop, [processing])

    assert await shop.stored_payment(created["payment_id"]) == before
    payment = await assert_end(shop, created["payment_id"], "failed", None)
    assert payment["failure"]["code"] == "insufficient_funds"


OLD_WORDS: dict[str, Document] = {
    "of no attempt": {"latest_charge": None},
    "of another attempt": {"latest_charge": "ch_of_another_attempt"},
    "of a voucher": {
        "latest_charge": None,
        "status": "requires_action",
        "next_action": {
            "type": "oxxo_display_details",
            "oxxo_display_details": {"expires_after": 4102444800},
        },
    },
}


@pytest.mark.parametrize("words", OLD_WORDS.values(), ids=OLD_WORDS)
@pytest.mark.parametrize("now", ["failed", "pending"])
async def test_a_late_snapshot_of_money_under_way_is_checked_with_stripe(
    shop: Shop, now: str, words: Document
) -> None:
    created = await shop.create_intent()
    recorder = Recorder(shop)
    await shop.confirm_in_browser(created, "pm_usBankAccount")
    shop.stripe.settle(created["payment_intent_id"], "failed")
    processing, failed = recorder.take("payment_intent.processing", "payment_intent.payment_failed")
    await deliver_all(shop, [failed])
    if now == "pending":
        # The shopper is at a second attempt, with a card that needs 3-D Secure.
        await shop.confirm(created, "pm_card_threeDSecure2Required")
    await assert_end(shop, created["payment_id"], now, None)
    processing["data"]["object"].update(words)

    await deliver_all(shop, [processing])

    await assert_end(shop, created["payment_id"], now, None)


@pytest.mark.parametrize("words", OLD_WORDS.values(), ids=OLD_WORDS)
async def test_a_late_snapshot_of_what_is_under_way_again_moves_a_failed_payment(
    shop: Shop, words: Document
) -> None:
    created = await shop.create_intent()
    recorder = Recorder(shop)
    await shop.confirm_in_browser(created, "pm_usBankAccount")
    shop.stripe.settle(created["payment_intent_id"], "failed")
    processing, failed = recorder.take("payment_intent.processing", "payment_intent.payment_failed")
    await deliver_all(shop, [failed])
    await shop.confirm_in_browser(created, "pm_usBankAccount")
    processing["data"]["object"].update(words)

    await deliver_all(shop, [processing])

    await assert_end(shop, created["payment_id"], "processing", None)


async def test_a_late_failure_leaves_a_success_alone(shop: Shop) -> None:
    created = await shop.create_intent()
    recorder = Recorder(shop)
    await shop.confirm_in_browser(created, "pm_card_visa_chargeDeclined")
    await shop.confirm_in_browser(created, "pm_card_visa")
    failed, succeeded = recorder.take("payment_intent.payment_failed", "payment_intent.succeeded")

    await deliver_all(shop, [succeeded])
    before = await shop.stored_payment(created["payment_id"])
    await deliver_all(shop, [failed])

    assert await shop.stored_payment(created["payment_id"]) == before
    await assert_end(shop, created["payment_id"], "succeeded", "paid")


async def test_several_declines_in_any_order_leave_the_payment_failed_and_payable(
    shop: Shop,
) -> None:
    for order in permutations(range(3)):
        created = await shop.create_intent()
        recorder = Recorder(shop)
        for card in ("visa_chargeDeclined", "chargeDeclinedExpiredCard", "visa_chargeDeclined"):
            await shop.confirm_in_browser(created, f"pm_card_{card}")
        events = recorder.take(*["payment_intent.payment_failed"] * 3)
        await deliver_all(shop, [events[place] for place in order])
        await assert_end(shop, created["payment_id"], "failed", None)

        ok(await shop.confirm(created, "pm_card_visa"))
        await assert_end(shop, created["payment_id"], "succeeded", "paid")


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_a_bank_debit_on_the_hosted_page_ends_the_same_in_every_order(
    shop: Shop, outcome: str
) -> None:
    last = {
        "succeeded": ("payment_intent.succeeded", "checkout.session.async_payment_succeeded"),
        "failed": ("payment_intent.payment_failed", "checkout.session.async_payment_failed"),
    }[outcome]
    for order in permutations(range(4)):
        session = await shop.create_session()
        recorder = Recorder(shop)
        shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
        intent_id = shop.stripe.checkout_sessions.named(session["session_id"]).data[
            "payment_intent"
        ]
        shop.stripe.settle(intent_id, "succeeded" if outcome == "succeeded" else "failed")
        events = recorder.take("payment_intent.processing", "checkout.session.completed", *last)
        shuffled = [events[place] for place in order]
        await deliver_all(shop, shuffled)
        payment = await assert_end(
            shop,
            session["payment_id"],
            outcome,
            "paid" if outcome == "succeeded" else None,
        )
        assert (payment["failure"] is None) is (outcome == "succeeded"), in_order(shuffled)


async def test_a_completion_that_is_recorded_as_the_debit_fails_does_not_hide_the_failure() -> None:
    """Two workers: one is about to write that the bank was asked when the other writes that it
    refused.
    """
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        session = await shop.create_session()
        recorder = Recorder(shop)
        shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
        record = shop.stripe.checkout_sessions.named(session["session_id"])
        shop.stripe.settle(record.data["payment_intent"], "failed")
        _, completed, failed, _ = recorder.take(
            "payment_intent.processing",
            "checkout.session.completed",
            "payment_intent.payment_failed",
            "checkout.session.async_payment_failed",
        )
        learns_intent = faults.pause("update_one", collection="payments")
        processes = faults.pause("update_one", collection="payments")
        completion = asyncio.create_task(deliver_all(shop, [completed]))
        await learns_intent.reached()
        learns_intent.go_on()
        await processes.reached()
        await deliver_all(shop, [failed])
        processes.go_on()
        await completion

        payment = await assert_end(shop, session["payment_id"], "failed", None)
        assert payment["failure"] is not None
        assert await shop.transitions(session["payment_id"]) == [("pending", "failed")]


async def test_a_completed_session_that_is_not_paid_yet_has_no_order(shop: Shop) -> None:
    session = await shop.create_session()
    recorder = Recorder(shop)
    shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    _, completed = recorder.take("payment_intent.processing", "checkout.session.completed")
    assert completed["data"]["object"]["payment_status"] == "unpaid"

    await deliver_all(shop, [completed])

    await assert_end(shop, session["payment_id"], "processing", None)


async def test_a_decline_on_the_hosted_page_then_success_end_the_same_in_every_order(
    shop: Shop,
) -> None:
    for order in permutations(range(3)):
        session = await shop.create_session()
        recorder = Recorder(shop)
        shop.stripe.pay_session(session["session_id"], "pm_card_visa_chargeDeclined")
        shop.stripe.pay_session(session["session_id"])
        events = recorder.take(
            "payment_intent.payment_failed",
            "payment_intent.succeeded",
            "checkout.session.completed",
        )
        await deliver_all(shop, [events[place] for place in order])
        await assert_end(shop, session["payment_id"], "succeeded", "paid")


async def test_an_expired_session_is_canceled_in_every_order_of_its_events(shop: Shop) -> None:
    for order in permutations(range(3)):
        session = await shop.create_session()
        recorder = Recorder(shop)
        shop.stripe.pay_session(session["session_id"], "pm_card_visa_chargeDeclined")
        shop.stripe.expire_session(session["session_id"])
        events = recorder.take(
            "payment_intent.payment_failed",
            "payment_intent.canceled",
            "checkout.session.expired",
        )
        await deliver_all(shop, [events[place] for place in order])
        await assert_end(shop, session["payment_id"], "canceled", None)
        assert "reconcile_at" not in await shop.stored_payment(session["payment_id"])


async def test_a_refund_that_failed_ends_the_same_in_every_order(shop: Shop) -> None:
    for number, order in enumerate(permutations(range(4))):
        payment = await shop.pay_by_card(payment_method="pm_card_refundFail")
        recorder = Recorder(shop)
        refund = shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"])
        shop.stripe.fail_refund(refund["id"])
        events = recorder.take(
            "refund.created", "charge.refunded", "refund.updated", "refund.failed", "refund.updated"
        )
        shuffled = shuffle(events, order, number)
        for event in shuffled:
            ok(await shop.deliver(event))

        stored = await shop.stored_payment(payment["payment_id"])
        told = in_order(shuffled)
        assert stored["status"] == "succeeded", told
        assert stored["refundable_amount"] == 999, told
        assert [
            (r["stripe_refund_id"], r["status"], r["failure_reason"]) for r in stored["refunds"]
        ] == [(refund["id"], "failed", "expired_or_canceled_card")], told
        assert stored["order_status"] == "paid", told
        orders = [o for o in await shop.stored("orders") if o["payment_id"] == stored["_id"]]
        assert [o["status"] for o in orders] == ["paid"], told


async def test_all_events_of_two_refunds_at_once_record_each_refund_once(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    recorder = Recorder(shop)
    intent_id = payment["stripe_payment_intent_id"]
    made = [
        shop.stripe.dashboard_refund(payment_intent=intent_id, amount=amount)["id"]
        for amount in (300, 400)
    ]
    events = recorder.take(*["refund.created", "charge.refunded", "refund.updated"] * 2)

    answers = await asyncio.gather(*(shop.deliver(event) for event in events))

    assert [ok(answer)["result"] for answer in answers] == ["processed"] * 6
    stored = await shop.stored_payment(payment["payment_id"])
    assert sorted(r["stripe_refund_id"] for r in stored["refunds"]) == sorted(made)
    assert stored["refundable_amount"] == 299
    await assert_end(shop, payment["payment_id"], "partially_refunded", "partially_refunded")


async def test_an_older_state_of_an_order_never_overwrites_a_newer_one(shop: Shop) -> None:
    paid = await shop.pay_by_card()
    payment = payment_from_document(await shop.stored_payment(paid["payment_id"]))
    partly = payment.take_over_refund("re_1", amount=400, reason=None, now=shop.clock())
    partly = partly.settle_refund(
        partly.refunds[0].refund_id, RefundStatus.SUCCEEDED, now=shop.clock(), cause="test"
    )
    orders = OrderRepository(shop.databases.payments["orders"], Commands(PAYMENTS_DATABASE))
    newer = replace(Order.of(partly), payment_revision=payment.revision + 2)

    await orders.put(newer)
    await orders.put(Order.of(payment))

    assert [order["status"] for order in await shop.orders()] == ["partially_refunded"]


# What is not as we asked


async def _held(shop: Shop, event: Document, payment_id: str, reason: str, *, of: str) -> Document:
    """Delivers the event; the payment must then wait for a person. Returns it as stored."""
    sample = f'payments_held_for_review_total{{reason="{reason}"}}'
    before = await shop.metric(sample)
    with capture_logs() as logs:
        assert ok(await shop.deliver(event))["result"] == "processed"
    errors = [line for line in logs if line["event"] == "payment.held_for_review"]
    assert [(e["log_level"], e["payment_id"], e["reason"]) for e in errors] == [
        ("error", payment_id, reason)
    ]
    assert await shop.metric(sample) == before + 1
    payment = await assert_end(shop, payment_id, of, None)
    stored = await shop.stored_payment(payment["payment_id"])
    assert stored["review"]["reason"] == reason
    assert stored["review"]["detail"]
    assert "reconcile_at" not in stored, "a person decides"
    return stored


async def _succeeded(shop: Shop) -> tuple[str, Document]:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    return created["payment_id"], shop.events("payment_intent.succeeded")[-1]


def _change_at_stripe(shop: Shop, event: Document, **fields: Any) -> None:
    """The event's object, in the event and as Stripe shows it when it is asked."""
    data = event["data"]["object"]
    data.update(fields)
    kinds: Any = {
        "payment_intent": shop.stripe.payment_intents,
        "checkout.session": shop.stripe.checkout_sessions,
    }
    kinds[data["object"]].named(data["id"]).data.update(fields)


@pytest.mark.parametrize("received", [998, 1000, 0, 99900])
async def test_another_amount_than_ours_is_held_for_review(shop: Shop, received: int) -> None:
    payment_id, event = await _succeeded(shop)
    _change_at_stripe(shop, event, amount_received=received)
    await _held(shop, event, payment_id, "amount_mismatch", of="pending")


async def test_another_currency_than_ours_is_held_for_review(shop: Shop) -> None:
    payment_id, event = await _succeeded(shop)
    _change_at_stripe(shop, event, currency="eur")
    stored = await _held(shop, event, payment_id, "currency_mismatch", of="pending")
    assert stored["review"]["detail"] == "Paid in EUR, asked for USD."


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("amount_total", 1, "amount_mismatch"), ("currency", "eur", "currency_mismatch")],
)
async def test_a_session_over_another_sum_is_held_for_review(
    shop: Shop, field: str, value: Any, reason: str
) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    event = shop.events("checkout.session.completed")[-1]
    _change_at_stripe(shop, event, **{field: value})
    await _held(shop, event, session["payment_id"], reason, of="pending")


# As an endpoint of an older API version words it, or Adaptive Pricing did before 2025-03-31.
OTHER_WORDS: dict[str, Document] = {
    "the shopper's currency": {"currency": "eur"},
    "the shopper's currency and amount": {"currency": "eur", "amount": 929},
    "another amount": {"amount": 1},
}


@pytest.mark.parametrize("words", OTHER_WORDS.values(), ids=OTHER_WORDS)
@pytest.mark.parametrize("how", ["PaymentIntent", "Checkout Session"])
async def test_what_only_an_event_says_holds_no_payment(
    shop: Shop, how: str, words: Document
) -> None:
    if how == "PaymentIntent":
        payment_id, event = await _succeeded(shop)
        amount = "amount_received"
    else:
        session = await shop.create_session()
        shop.stripe.pay_session(session["session_id"])
        payment_id, event = session["payment_id"], shop.events("checkout.session.completed")[-1]
        amount = "amount_total"
    for name, value in words.items():
        event["data"]["object"][amount if name == "amount" else name] = value

    assert ok(await shop.deliver(event))["result"] == "processed"

    await assert_end(shop, payment_id, "succeeded", "paid")
    assert "review" not in await shop.stored_payment(payment_id)


async def test_a_mismatch_is_not_decided_while_stripe_cannot_be_asked(shop: Shop) -> None:
    payment_id, event = await _succeeded(shop)
    event["data"]["object"]["currency"] = "eur"
    shop.stripe.faults.add("error_before", path="/v1/payment_intents", headers=GIVE_UP)

    assert (await shop.deliver(event)).status_code == 502

    await assert_end(shop, payment_id, "pending", None)
    assert "review" not in await shop.stored_payment(payment_id)
    ok(await shop.deliver(event))
    await assert_end(shop, payment_id, "succeeded", "paid")


async def test_a_held_payment_stays_held_whatever_else_arrives(shop: Shop) -> None:
    payment_id, event = await _succeeded(shop)
    intent = shop.stripe.payment_intents.named(event["data"]["object"]["id"])
    wrong = {**event, "id": "evt_wrong", "data": {"object": dict(event["data"]["object"])}}
    _change_at_stripe(shop, wrong, amount_received=1)
    await _held(shop, wrong, payment_id, "amount_mismatch", of="pending")

    intent.data["amount_received"] = 999
    ok(await shop.deliver(event))
    await shop.reconcile(minutes=5)

    await assert_end(shop, payment_id, "pending", None)
    stored = await shop.stored_payment(payment_id)
    assert stored["review"]["reason"] == "amount_mismatch"
    assert await shop.metric('payments_held_for_review_total{reason="amount_mismatch"}') == 1


async def test_money_for_a_canceled_payment_is_held_for_review(shop: Shop) -> None:
    session = await shop.create_session()
    recorder = Recorder(shop)
    shop.stripe.expire_session(session["session_id"])
    await deliver_all(shop, recorder.take("checkout.session.expired"))
    await assert_end(shop, session["payment_id"], "canceled", None)
    # Stripe would not: but if it ever does, nobody shall lose the money's trace.
    other = await shop.create_session()
    shop.stripe.pay_session(other["session_id"])
    paid = shop.events("payment_intent.succeeded")[-1]
    paid["data"]["object"]["metadata"]["payment_id"] = session["payment_id"]

    stored = await _held(
        shop, paid, session["payment_id"], "paid_after_cancellation", of="canceled"
    )

    assert stored["stripe_payment_intent_id"] == paid["data"]["object"]["id"]


async def test_money_on_a_second_payment_intent_is_held_for_review(shop: Shop) -> None:
    created = await shop.create_intent()
    _, event = await _succeeded(shop)
    event["data"]["object"]["metadata"]["payment_id"] = created["payment_id"]
    await _held(shop, event, created["payment_id"], "paid_twice", of="pending")
