"""The table of a payment's states and the arithmetic of its refunds: pure, no I/O."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ids import order_id_of
from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.orders import OrderStatus
from app.domain.payments import (
    ATTEMPTS_LIMIT,
    GENERIC_DECLINE,
    HISTORY_LIMIT,
    REFUNDS_LIMIT,
    Failure,
    Payment,
    PaymentFlow,
    PaymentMethod,
    PaymentStatus,
    ReviewReason,
    Work,
)
from app.domain.refunds import Refund, RefundStatus
from app.domain.schedule import MARK_RETENTION, next_look_at
from app.errors import PaymentNotRefundable, RefundExceedsRemaining

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
DECLINED = Failure("card_declined", "Your card was declined.", "insufficient_funds")
EXPIRED = Failure("expired_card", "Your card has expired.")

Move = Callable[[Payment], Payment]


def payment(flow: PaymentFlow = PaymentFlow.PAYMENT_INTENT, *, amount: int = 999) -> Payment:
    """Pending. A credits payment costs three credits."""
    in_credits = flow is PaymentFlow.CREDITS
    return Payment(
        payment_id="pay_1",
        user_id="user_123",
        flow=flow,
        status=PaymentStatus.PENDING,
        amount=amount,
        currency="usd",
        credits=3 if in_credits else 0,
        open_marks=("pay_1",) if in_credits else (),
        created_at=NOW,
        updated_at=NOW,
    )


def paid(amount: int = 999) -> Payment:
    return payment(amount=amount).succeed(stripe_attempt_id="ch_1", now=NOW, cause="paid")


def paid_with_credits(credits: int = 3, *, amount: int = 999) -> Payment:
    unpaid = replace(payment(PaymentFlow.CREDITS, amount=amount), credits=credits)
    return unpaid.succeed(now=NOW, cause="paid")


def reserve(
    known: Payment, refund_id: str, *, amount: int | None = None, credits: int | None = None
) -> Payment:
    return known.reserve_refund(refund_id, amount=amount, credits=credits, reason=None, now=LATER)


def settle(known: Payment, refund_id: str, status: RefundStatus) -> Payment:
    return known.settle_refund(refund_id, status, now=LATER, cause="refund")


def refunded(known: Payment, refund_id: str, *, amount: int | None = None) -> Payment:
    return settle(reserve(known, refund_id, amount=amount), refund_id, RefundStatus.SUCCEEDED)


def in_status(status: PaymentStatus, flow: PaymentFlow = PaymentFlow.PAYMENT_INTENT) -> Payment:
    """A payment that came into the status as a real one does."""
    known = payment(flow)
    match status:
        case PaymentStatus.PENDING:
            return known
        case PaymentStatus.PROCESSING:
            return known.process(stripe_attempt_id="ch_1", now=NOW, cause="submitted")
        case PaymentStatus.FAILED:
            return known.fail(DECLINED, stripe_attempt_id="ch_1", now=NOW, cause="declined")
        case PaymentStatus.CANCELED:
            return known.cancel(now=NOW, cause="canceled")
    succeeded = known.succeed(stripe_attempt_id="ch_1", now=NOW, cause="paid")
    match status:
        case PaymentStatus.SUCCEEDED:
            return succeeded
        case PaymentStatus.PARTIALLY_REFUNDED if flow is PaymentFlow.CREDITS:
            return settle(reserve(succeeded, "rfd_1", credits=1), "rfd_1", RefundStatus.SUCCEEDED)
        case PaymentStatus.PARTIALLY_REFUNDED:
            return refunded(succeeded, "rfd_1", amount=100)
        case _:
            return refunded(succeeded, "rfd_1")


# The table

PENDING, PROCESSING, SUCCEEDED, FAILED, CANCELED, PARTIALLY_REFUNDED, REFUNDED = (
    PaymentStatus.PENDING,
    PaymentStatus.PROCESSING,
    PaymentStatus.SUCCEEDED,
    PaymentStatus.FAILED,
    PaymentStatus.CANCELED,
    PaymentStatus.PARTIALLY_REFUNDED,
    PaymentStatus.REFUNDED,
)

LEGAL = {
    (PENDING, PROCESSING),
    (PENDING, SUCCEEDED),
    (PENDING, FAILED),
    (PENDING, CANCELED),
    (PROCESSING, SUCCEEDED),
    (PROCESSING, FAILED),
    (PROCESSING, CANCELED),
    (FAILED, PENDING),
    (FAILED, PROCESSING),
    (FAILED, SUCCEEDED),
    (FAILED, CANCELED),
    (SUCCEEDED, PARTIALLY_REFUNDED),
    (SUCCEEDED, REFUNDED),
    (PARTIALLY_REFUNDED, REFUNDED),
}
"""Copied from the design's drawing, not from the code."""

MOVES: dict[str, tuple[Move, PaymentStatus]] = {
    "succeed": (lambda p: p.succeed(stripe_attempt_id="ch_2", now=LATER, cause="evt"), SUCCEEDED),
    "process": (lambda p: p.process(stripe_attempt_id="ch_2", now=LATER, cause="evt"), PROCESSING),
    "reopen": (lambda p: p.reopen(now=LATER, cause="evt"), PENDING),
    "fail": (lambda p: p.fail(EXPIRED, stripe_attempt_id="ch_2", now=LATER, cause="evt"), FAILED),
    "cancel": (lambda p: p.cancel(now=LATER, cause="evt"), CANCELED),
}


@pytest.mark.parametrize("after", PaymentStatus)
@pytest.mark.parametrize("before", PaymentStatus)
def test_only_the_drawn_transitions_are_allowed(
    before: PaymentStatus, after: PaymentStatus
) -> None:
    assert before.may_become(after) is ((before, after) in LEGAL)


@pytest.mark.parametrize("before", PaymentStatus)
@pytest.mark.parametrize("move", MOVES)
def test_a_card_payment_moves_along_the_table_or_stays_the_very_same(
    move: str, before: PaymentStatus
) -> None:
    known = in_status(before)
    apply, target = MOVES[move]

    moved = apply(known)

    if (before, target) in LEGAL and not (move == "reopen" and before is not FAILED):
        assert moved.status is target
        line = moved.history[-1]
        assert (line.from_status, line.to_status) == (before, target)
        assert (line.cause, line.at) == ("evt", LATER)
        assert len(moved.history) == len(known.history) + 1
        assert moved.updated_at == LATER
    elif (move, before) == ("fail", FAILED):
        assert moved.status is FAILED, "a second attempt failed as well"
        assert moved.failure == EXPIRED
        assert moved.failed_attempts == ("ch_1", "ch_2")
        assert moved.history == known.history
    else:
        assert moved is known


@pytest.mark.parametrize("before", PaymentStatus)
@pytest.mark.parametrize("move", MOVES)
def test_a_credits_payment_that_failed_is_over(move: str, before: PaymentStatus) -> None:
    known = in_status(before, PaymentFlow.CREDITS)
    apply, target = MOVES[move]
    may_move = before is not FAILED and (before, target) in LEGAL

    moved = apply(known)

    assert (moved is known) is not may_move
    assert moved.status is (target if may_move else before)


@pytest.mark.parametrize("flow", PaymentFlow)
@pytest.mark.parametrize("status", PaymentStatus)
def test_a_payment_is_final_once_it_is_decided(status: PaymentStatus, flow: PaymentFlow) -> None:
    final = {SUCCEEDED, PARTIALLY_REFUNDED, REFUNDED, CANCELED}
    if flow is PaymentFlow.CREDITS:
        final.add(FAILED)
    assert in_status(status, flow).is_final is (status in final)


@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=12), st.sampled_from(PaymentFlow))
def test_whatever_order_news_arrives_in_the_history_is_an_unbroken_legal_path(
    moves: list[str], flow: PaymentFlow
) -> None:
    known = payment(flow)
    for move in moves:
        known = MOVES[move][0](known)
    path = [PENDING, *(line.to_status for line in known.history)]
    assert path[-1] is known.status
    assert [line.from_status for line in known.history] == path[:-1]
    assert set(pairwise(path)) <= LEGAL
    if SUCCEEDED in path:
        assert known.status is SUCCEEDED, "nothing undoes a success"


def test_history_keeps_the_latest_hundred_lines() -> None:
    known = payment()
    for number in range(HISTORY_LIMIT):
        known = known.fail(
            DECLINED, stripe_attempt_id=f"ch_{number}", now=LATER, cause=f"fail {number}"
        )
        known = known.reopen(now=LATER, cause=f"reopen {number}")
    assert len(known.history) == HISTORY_LIMIT
    assert known.history[-1].cause == f"reopen {HISTORY_LIMIT - 1}"


@pytest.mark.parametrize("status", PaymentStatus)
def test_an_order_is_due_exactly_for_what_is_paid(status: PaymentStatus) -> None:
    expected = {
        SUCCEEDED: OrderStatus.PAID,
        PARTIALLY_REFUNDED: OrderStatus.PARTIALLY_REFUNDED,
        REFUNDED: OrderStatus.REFUNDED,
    }
    known = in_status(status)
    assert known.due_order_status is expected.get(status)
    assert known.status.is_paid is (status in expected)


# Attempts


def test_success_makes_the_whole_price_refundable_and_forgets_the_decline() -> None:
    declined = payment().fail(DECLINED, stripe_attempt_id="ch_1", now=NOW, cause="declined")

    succeeded = declined.succeed(stripe_attempt_id="ch_2", now=LATER, cause="paid")

    assert succeeded.failure is None
    assert succeeded.stripe_attempt_id == "ch_2"
    assert succeeded.succeeded_at == LATER
    assert (succeeded.refundable_amount, succeeded.refundable_credits) == (999, 0)
    by_credits = paid_with_credits()
    assert (by_credits.refundable_amount, by_credits.refundable_credits) == (999, 3)


def test_the_same_failure_twice_changes_nothing() -> None:
    known = in_status(FAILED)
    assert known.fail(EXPIRED, stripe_attempt_id="ch_1", now=LATER, cause="again") is known


def test_a_failure_that_was_noted_before_does_not_stop_a_newer_attempt() -> None:
    known = in_status(PROCESSING).note_failed_attempt("ch_0", now=LATER)
    assert known.failed_attempts == ("ch_0",)
    assert known.status is PROCESSING
    assert known.note_failed_attempt("ch_0", now=LATER) is known
    assert known.fail(DECLINED, stripe_attempt_id="ch_0", now=LATER, cause="late") is known


def test_an_attempt_that_failed_is_not_processing_any_more() -> None:
    known = in_status(FAILED)
    assert known.process(stripe_attempt_id="ch_1", now=LATER, cause="late") is known


def test_a_failure_without_a_known_attempt_still_fails_the_payment() -> None:
    known = payment().fail(DECLINED, stripe_attempt_id=None, now=LATER, cause="declined")
    assert known.status is FAILED
    assert known.failed_attempts == ()


def test_only_the_latest_failed_attempts_are_remembered() -> None:
    known = payment()
    for number in range(ATTEMPTS_LIMIT + 1):
        known = known.fail(DECLINED, stripe_attempt_id=f"ch_{number}", now=LATER, cause="declined")
    noted = known.note_failed_attempt("ch_new", now=LATER)
    assert len(known.failed_attempts) == len(noted.failed_attempts) == ATTEMPTS_LIMIT
    assert known.failed_attempts[-1] == f"ch_{ATTEMPTS_LIMIT}"
    assert noted.failed_attempts[-1] == "ch_new"


def test_stripe_ids_are_recorded_once() -> None:
    known = payment().with_payment_intent("pi_1", now=LATER)
    known = known.with_checkout_session("cs_1", now=LATER)
    known = known.start_confirmation("att_1", now=LATER)
    assert known.with_payment_intent("pi_2", now=LATER) is known
    assert known.with_checkout_session("cs_2", now=LATER) is known
    assert known.start_confirmation("att_1", now=LATER) is known
    assert known.start_confirmation("att_2", now=LATER).confirmation_id == "att_2"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("insufficient_funds", "insufficient_funds"),
        ("lost_card", GENERIC_DECLINE),
        ("stolen_card", GENERIC_DECLINE),
        ("fraudulent", GENERIC_DECLINE),
        ("pickup_card", GENERIC_DECLINE),
        ("merchant_blacklist", GENERIC_DECLINE),
    ],
)
def test_a_shopper_is_not_told_that_the_card_is_reported_stolen(code: str, shown: str) -> None:
    assert Failure("card_declined", "No.", code).public_decline_code == shown
    assert Failure(code, "No.").public_decline_code == shown


def test_the_first_reason_to_hold_a_payment_stays() -> None:
    held = payment().hold(ReviewReason.AMOUNT_MISMATCH, "Paid 1, asked for 2.", now=LATER)
    assert held.review is not None
    assert held.review.reason is ReviewReason.AMOUNT_MISMATCH
    assert held.hold(ReviewReason.PAID_TWICE, "Again.", now=LATER) is held
    assert held.unfinished == set(), "a person decides, not the reconciler"


# The order


def test_an_order_is_recorded_only_while_it_says_what_is_due() -> None:
    known = paid()
    assert known.order_id is None
    recorded = known.record_order(OrderStatus.PAID, now=LATER)
    assert recorded.order_id == order_id_of("pay_1")
    assert recorded.record_order(OrderStatus.PAID, now=LATER) is recorded
    overtaken = refunded(recorded, "rfd_1")
    assert overtaken.record_order(OrderStatus.PARTIALLY_REFUNDED, now=LATER) is overtaken
    assert payment().record_order(OrderStatus.PAID, now=LATER) == payment()


# Refunds: states

REFUND_MOVES = {
    (RefundStatus.PENDING, RefundStatus.SUCCEEDED),
    (RefundStatus.PENDING, RefundStatus.FAILED),
    (RefundStatus.PENDING, RefundStatus.CANCELED),
    (RefundStatus.SUCCEEDED, RefundStatus.FAILED),
    (RefundStatus.SUCCEEDED, RefundStatus.CANCELED),
}


@pytest.mark.parametrize("after", RefundStatus)
@pytest.mark.parametrize("before", RefundStatus)
def test_a_refund_settles_along_its_own_table_or_changes_nothing(
    before: RefundStatus, after: RefundStatus
) -> None:
    known = reserve(paid(), "rfd_1", amount=400)
    if before is not RefundStatus.PENDING:
        known = settle(known, "rfd_1", before)
    legal = (before, after) in REFUND_MOVES

    settled = settle(known, "rfd_1", after)

    assert before.may_become(after) is legal
    assert (settled is known) is not legal
    refund = settled.refund("rfd_1")
    assert refund is not None
    assert refund.status is (after if legal else before)
    assert settled.refundable_amount == (599 if refund.status.holds_money else 999)
    expected = PARTIALLY_REFUNDED if refund.status is RefundStatus.SUCCEEDED else SUCCEEDED
    assert settled.status is expected


@pytest.mark.parametrize("status", ["pending", "succeeded", "failed", "canceled"])
def test_refund_statuses_are_spelled_as_stripe_spells_them(status: str) -> None:
    assert RefundStatus.from_stripe(status).value == status


@pytest.mark.parametrize("status", ["requires_action", "something_new"])
def test_an_undecided_status_of_stripe_keeps_the_refund_pending(status: str) -> None:
    assert RefundStatus.from_stripe(status) is RefundStatus.PENDING


def test_settling_a_refund_that_is_not_there_changes_nothing() -> None:
    known = paid()
    assert settle(known, "rfd_unknown", RefundStatus.SUCCEEDED) is known


def test_stripes_id_is_learned_once_and_the_refund_found_by_it() -> None:
    known = reserve(paid(), "rfd_1", amount=400)
    learned = known.settle_refund(
        "rfd_1", RefundStatus.PENDING, now=LATER, cause="refund", stripe_refund_id="re_1"
    )
    assert learned.refund_from_stripe("re_1") == learned.refund("rfd_1")
    assert learned.refund_from_stripe("re_2") is None
    again = learned.settle_refund(
        "rfd_1", RefundStatus.PENDING, now=LATER, cause="refund", stripe_refund_id="re_1"
    )
    assert again is learned


def test_a_pending_refund_leaves_the_payment_as_it_was() -> None:
    known = reserve(paid(), "rfd_1")
    assert known.status is SUCCEEDED
    assert known.refunded_amount == 0
    assert known.refundable_amount == 0


def test_refunds_carry_the_payment_from_partially_to_wholly_refunded() -> None:
    known = refunded(paid(), "rfd_1", amount=400)
    assert (known.status, known.refunded_amount) == (PARTIALLY_REFUNDED, 400)
    known = refunded(known, "rfd_2")
    assert (known.status, known.refunded_amount) == (REFUNDED, 999)
    assert [line.to_status for line in known.history] == [SUCCEEDED, PARTIALLY_REFUNDED, REFUNDED]


def test_a_refund_that_fails_after_it_had_succeeded_takes_the_status_back() -> None:
    known = refunded(refunded(paid(), "rfd_1", amount=400), "rfd_2")

    back = known.settle_refund(
        "rfd_2", RefundStatus.FAILED, now=LATER, cause="evt", failure_reason="lost_card"
    )

    assert (back.status, back.refunded_amount) == (PARTIALLY_REFUNDED, 400)
    assert back.refundable_amount == 599
    refund = back.refund("rfd_2")
    assert refund is not None
    assert refund.failure_reason == "lost_card"
    assert settle(back, "rfd_1", RefundStatus.FAILED).status is SUCCEEDED


def test_reserving_the_same_refund_twice_reserves_it_once() -> None:
    known = reserve(paid(), "rfd_1", amount=400)
    assert reserve(known, "rfd_1", amount=400) is known


@pytest.mark.parametrize("status", [PENDING, PROCESSING, FAILED, CANCELED])
@pytest.mark.parametrize("flow", PaymentFlow)
def test_nothing_unpaid_is_refunded(status: PaymentStatus, flow: PaymentFlow) -> None:
    with pytest.raises(PaymentNotRefundable):
        reserve(in_status(status, flow), "rfd_1")


@pytest.mark.parametrize("known", [paid(), paid_with_credits()])
def test_nothing_is_refunded_twice(known: Payment) -> None:
    with pytest.raises(PaymentNotRefundable):
        reserve(reserve(known, "rfd_1"), "rfd_2")


def test_a_refund_of_more_than_remains_says_what_remains() -> None:
    known = reserve(paid(), "rfd_1", amount=400)
    with pytest.raises(RefundExceedsRemaining) as refused:
        reserve(known, "rfd_2", amount=600)
    assert refused.value.facts == {"remaining": 599}
    assert reserve(known, "rfd_2", amount=599).refundable_amount == 0


def test_a_credits_refund_of_more_than_remains_says_what_remains_in_credits() -> None:
    known = reserve(paid_with_credits(), "rfd_1", credits=1)
    with pytest.raises(RefundExceedsRemaining) as refused:
        reserve(known, "rfd_2", credits=3)
    assert refused.value.facts == {"remaining": 2}


@pytest.mark.parametrize("amount", [1000, 1001, 50_000])
def test_an_amount_above_the_price_of_a_credits_payment_exceeds_what_remains(amount: int) -> None:
    with pytest.raises(RefundExceedsRemaining) as refused:
        reserve(paid_with_credits(), "rfd_1", amount=amount)
    assert refused.value.facts == {"remaining": 3}


def test_a_card_payment_is_not_refunded_in_credits() -> None:
    with pytest.raises(PaymentNotRefundable):
        reserve(paid(), "rfd_1", credits=1)


def test_an_amount_is_converted_to_credits_only_when_it_is_worth_whole_ones() -> None:
    known = paid_with_credits(3, amount=999)
    refund = reserve(known, "rfd_1", amount=666).refund("rfd_1")
    assert refund is not None
    assert (refund.amount, refund.credits) == (666, 2)
    for amount in (1, 332, 334, 665, 998):
        with pytest.raises(PaymentNotRefundable):
            reserve(known, "rfd_1", amount=amount)


def test_the_remaining_amount_is_worth_the_remaining_credits_odd_cents_included() -> None:
    known = reserve(paid_with_credits(3, amount=1000), "rfd_1", credits=1)
    refund = reserve(known, "rfd_2", amount=667).refund("rfd_2")
    assert refund is not None
    assert (refund.amount, refund.credits) == (667, 2)


def test_credits_paid_for_a_free_cart_are_refunded_by_credits() -> None:
    free = paid_with_credits(2, amount=0)
    with pytest.raises(RefundExceedsRemaining):
        reserve(free, "rfd_1", amount=1)
    known = reserve(reserve(free, "rfd_1", credits=1), "rfd_2")
    assert known.refundable_credits == 0
    assert [refund.credits for refund in known.refunds] == [1, 1]
    for refund in known.refunds:
        known = settle(known, refund.refund_id, RefundStatus.SUCCEEDED)
    assert known.status is REFUNDED


def test_a_credits_refund_leaves_a_mark_to_look_for() -> None:
    assert reserve(paid_with_credits(), "rfd_1").open_marks == ("pay_1", "rfd_1")
    assert reserve(paid(), "rfd_1").open_marks == ()


def test_a_payment_takes_two_hundred_refunds_also_those_that_failed() -> None:
    known = paid()
    for number in range(REFUNDS_LIMIT - 1):
        known = settle(
            reserve(known, f"rfd_{number}", amount=1), f"rfd_{number}", RefundStatus.FAILED
        )
    known = reserve(known, "rfd_last", amount=1)
    assert (len(known.refunds), known.refundable_amount) == (200, 998)

    with pytest.raises(PaymentNotRefundable, match="200 refunds"):
        reserve(known, "rfd_too_many", amount=1)
    assert reserve(known, "rfd_last", amount=1) is known, "a repeat is not one more"


def test_a_refund_from_the_dashboard_is_taken_over_once() -> None:
    known = paid().take_over_refund("re_1", amount=400, reason="duplicate", now=LATER)
    refund = known.refund_from_stripe("re_1")
    assert refund is not None
    assert (refund.amount, refund.status) == (400, RefundStatus.PENDING)
    assert refund.reason == "duplicate"
    assert known.refundable_amount == 599
    assert known.take_over_refund("re_1", amount=400, reason=None, now=LATER) is known


@pytest.mark.parametrize("status", [RefundStatus.FAILED, RefundStatus.CANCELED])
def test_a_refund_that_failed_before_it_was_heard_of_reserves_nothing_and_stays_failed(
    status: RefundStatus,
) -> None:
    known = reserve(paid(), "rfd_1", amount=700).take_over_refund(
        "re_1", amount=400, reason=None, now=LATER, status=status, failure_reason="declined"
    )
    refund = known.refund_from_stripe("re_1")
    assert refund is not None
    assert (refund.status, refund.failure_reason) == (status, "declined")
    assert known.refundable_amount == 299
    late = known.take_over_refund("re_1", amount=400, reason=None, now=LATER)
    assert settle(late, refund.refund_id, RefundStatus.SUCCEEDED) is known


def test_a_refund_from_the_dashboard_waits_for_ours_that_reserve_the_money() -> None:
    known = reserve(paid(), "rfd_1", amount=700)
    with pytest.raises(RefundExceedsRemaining) as refused:
        known.take_over_refund("re_1", amount=400, reason=None, now=LATER)
    assert refused.value.facts == {"remaining": 299}


# Refunds: arithmetic

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve_all", "take_over", "succeed", "fail", "cancel"]),
        st.integers(min_value=0, max_value=1_200),
    ),
    max_size=25,
)


def _walk(known: Payment, steps: list[Step]) -> Payment:
    """Refunds as callers, Stripe and its dashboard might make, refuse and settle them."""
    in_credits = known.payment_method is PaymentMethod.CREDITS
    for number, (action, size) in enumerate(steps):
        before = known
        refund_id = f"rfd_{number}"
        try:
            match action:
                case "reserve" if in_credits:
                    known = reserve(known, refund_id, credits=1 + size % 9)
                case "reserve":
                    known = reserve(known, refund_id, amount=1 + size)
                case "reserve_all":
                    known = reserve(known, refund_id)
                case "take_over":
                    if not in_credits:
                        known = known.take_over_refund(
                            f"re_{number}", amount=1 + size, reason=None, now=LATER
                        )
                case _ if known.refunds:
                    chosen = known.refunds[size % len(known.refunds)]
                    settled = {
                        "succeed": RefundStatus.SUCCEEDED,
                        "fail": RefundStatus.FAILED,
                        "cancel": RefundStatus.CANCELED,
                    }[action]
                    known = settle(known, chosen.refund_id, settled)
        except (PaymentNotRefundable, RefundExceedsRemaining):
            assert known is before
        _require_sound(known)
    return known


def _holding(known: Payment) -> list[Refund]:
    return [refund for refund in known.refunds if refund.status.holds_money]


def _require_sound(known: Payment) -> None:
    """What is reserved or given back and what remains are the whole, to the cent and credit."""
    amounts = [refund.amount for refund in _holding(known)]
    credits = [refund.credits for refund in _holding(known)]
    assert known.refundable_amount >= 0
    assert known.refundable_credits >= 0
    assert all(amount >= 0 for amount in amounts)
    assert sum(amounts) + known.refundable_amount == known.amount
    assert sum(credits) + known.refundable_credits == known.credits
    in_credits = known.payment_method is PaymentMethod.CREDITS
    given, whole = (
        (known.refunded_credits, known.credits)
        if in_credits
        else (known.refunded_amount, known.amount)
    )
    expected = SUCCEEDED if not given else REFUNDED if given == whole else PARTIALLY_REFUNDED
    assert known.status is expected


@given(st.integers(min_value=1, max_value=2_000), STEPS)
def test_refunds_of_a_card_payment_always_add_up_to_what_was_paid(
    amount: int, steps: list[Step]
) -> None:
    _walk(paid(amount), steps)


@given(st.integers(min_value=0, max_value=2_000), st.integers(min_value=1, max_value=40), STEPS)
def test_refunds_of_a_credits_payment_always_add_up_to_what_was_paid(
    amount: int, credits: int, steps: list[Step]
) -> None:
    known = _walk(paid_with_credits(credits, amount=amount), steps)
    if known.refundable_credits == 0:
        assert known.refundable_amount == 0, "the last credits take the odd cents with them"


@given(st.integers(min_value=1, max_value=2_000), st.integers(min_value=1, max_value=40), st.data())
def test_a_credits_refund_by_amount_gives_exactly_that_amount_back(
    amount: int, credits: int, data: st.DataObject
) -> None:
    known = paid_with_credits(credits, amount=amount)
    if credits > 1 and data.draw(st.booleans()):
        known = reserve(known, "rfd_0", credits=data.draw(st.integers(1, credits - 1)))
    asked = data.draw(st.integers(min_value=1, max_value=amount + 5))
    try:
        refund = reserve(known, "rfd_1", amount=asked).refund("rfd_1")
    except RefundExceedsRemaining:
        assert asked > known.refundable_amount
        return
    except PaymentNotRefundable:
        assert asked * credits % amount != 0
        assert asked < known.refundable_amount
        return
    assert refund is not None
    assert refund.amount == asked
    assert refund.credits >= 1


# Disputes, fraud warnings and marks


def _dispute(status: str, *, id: str = "du_1") -> Dispute:
    return Dispute(id, status, "fraudulent", 999, NOW, NOW)


def _recorded(known: Payment, claim: Dispute | FraudWarning) -> Payment:
    return known.record_issuer_report(claim, instead_of=known.recorded(claim), now=LATER)


def test_a_dispute_has_the_state_that_was_recorded_last() -> None:
    known = _recorded(paid(), _dispute("needs_response"))
    won = _recorded(known, _dispute("won"))
    assert [(d.status, d.created_at, d.updated_at) for d in won.disputes] == [("won", NOW, LATER)]
    assert [d.status for d in _recorded(won, _dispute("needs_response")).disputes] == [
        "needs_response"
    ]


def test_recording_what_is_recorded_changes_nothing() -> None:
    known = _recorded(paid(), _dispute("needs_response"))
    assert _recorded(known, _dispute("needs_response")) is known


def test_a_claim_is_recorded_only_in_place_of_what_its_worker_saw() -> None:
    seen = _recorded(paid(), _dispute("needs_response"))
    moved_on = _recorded(seen, _dispute("won"))
    slow = _dispute("under_review")
    for instead_of in (None, seen.disputes[0]):
        late = moved_on.record_issuer_report(slow, instead_of=instead_of, now=LATER)
        assert late is moved_on


def test_a_state_that_came_back_is_not_the_one_that_its_worker_saw() -> None:
    seen = _recorded(paid(), _dispute("needs_response"))
    again = seen.record_issuer_report(
        _dispute("under_review"), instead_of=seen.disputes[0], now=LATER
    )
    again = again.record_issuer_report(
        _dispute("needs_response"),
        instead_of=again.disputes[0],
        now=LATER + timedelta(milliseconds=1),
    )
    slow = again.record_issuer_report(_dispute("won"), instead_of=seen.disputes[0], now=LATER)
    assert slow is again


def test_claims_on_a_payment_are_kept_apart() -> None:
    known = _recorded(paid(), _dispute("needs_response"))
    known = _recorded(known, _dispute("needs_response", id="du_2"))
    known = _recorded(known, FraudWarning("du_2", "made_with_lost_card", True, NOW, NOW))
    known = _recorded(known, _dispute("won", id="du_2"))
    assert [dispute.status for dispute in known.disputes] == ["needs_response", "won"]
    assert [warning.actionable for warning in known.fraud_warnings] == [True]


def test_marks_are_closed_once() -> None:
    known = replace(payment(), open_marks=("rfd_1", "rfd_2"))
    closed = known.close_marks(frozenset({"rfd_1"}), now=LATER)
    assert closed.open_marks == ("rfd_2",)
    assert closed.close_marks(frozenset({"rfd_1"}), now=LATER) is closed


# What is left to do, and when


def test_unfinished_work_is_named() -> None:
    assert payment().unfinished == {Work.OUTCOME}
    assert in_status(FAILED).unfinished == {Work.OUTCOME}, "the card may be tried again"
    assert in_status(CANCELED).unfinished == set()
    assert paid().unfinished == {Work.ORDER}
    done = paid().record_order(OrderStatus.PAID, now=LATER)
    assert done.unfinished == set()
    assert reserve(done, "rfd_1").unfinished == {Work.REFUND}
    assert refunded(done, "rfd_1").unfinished == {Work.ORDER}
    assert payment(PaymentFlow.CREDITS).unfinished == {Work.OUTCOME, Work.MARKS}


def _next(known: Payment, now: datetime) -> datetime | None:
    return next_look_at(known, now=now, after=timedelta(minutes=1), abandon_after=timedelta(days=1))


def test_a_payment_at_rest_is_never_looked_at() -> None:
    assert _next(paid().record_order(OrderStatus.PAID, now=NOW), LATER) is None
    assert _next(in_status(CANCELED), LATER) is None


def test_each_look_without_a_change_waits_four_times_as_long_up_to_six_hours() -> None:
    known = replace(payment(), created_at=NOW - timedelta(days=9))
    waits = []
    for _ in range(7):
        at = _next(known, NOW)
        assert at is not None
        waits.append((at - NOW) / timedelta(minutes=1))
        known = known.looked_at()
    assert waits == [1, 4, 16, 64, 256, 360, 360]
    changed = known.with_payment_intent("pi_1", now=LATER)
    assert _next(changed, NOW) == NOW + timedelta(minutes=1), "news start the count again"


def test_a_payment_is_looked_at_when_it_counts_as_abandoned() -> None:
    known = replace(payment(), reconcile_attempts=9)
    eve = NOW + timedelta(hours=23)
    assert _next(known, eve) == NOW + timedelta(days=1)


def test_marks_alone_wait_until_no_request_can_still_know_of_them() -> None:
    known = paid_with_credits().record_order(OrderStatus.PAID, now=LATER)
    assert known.unfinished == {Work.MARKS}
    assert _next(known, LATER) == LATER + MARK_RETENTION
    assert _next(known, LATER + timedelta(days=1)) == LATER + timedelta(days=1)


def test_marks_that_could_not_be_removed_wait_longer_each_time() -> None:
    known = paid_with_credits().record_order(OrderStatus.PAID, now=LATER)
    overdue = LATER + timedelta(days=1)
    waits = []
    for _ in range(6):
        known = known.looked_at()
        at = _next(known, overdue)
        assert at is not None
        waits.append((at - overdue) / timedelta(minutes=1))
    assert waits == [4, 16, 64, 256, 360, 360]
    assert _next(known, LATER) == LATER + timedelta(hours=6)
