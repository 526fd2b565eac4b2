"""A payment and the only places where its state changes: pure functions from payment to payment.

Routes, events and the reconciler all change a payment through these methods, and save it through
``services/payment_writer.py``, which does so only if no other worker changed the payment meanwhile.
A method that finds its change done before, or overtaken, returns the very same object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NotRequired, Self, TypedDict

from app.domain.cart import CartItem
from app.domain.ids import order_id_of, refund_id_of_stripe_refund
from app.domain.issuer_reports import Dispute, FraudWarning, IssuerReport, says_the_same
from app.domain.money import display
from app.domain.orders import OrderStatus
from app.domain.refund_measure import Refundable
from app.domain.refunds import Refund, RefundStatus
from app.errors import (
    PaymentNotCancelable,
    PaymentNotConfirmable,
    PaymentNotRefundable,
    RefundExceedsRemaining,
)

GENERIC_DECLINE: Final = "generic_decline"
_CONFIDENTIAL_DECLINE_CODES: Final = frozenset(
    {"fraudulent", "lost_card", "merchant_blacklist", "pickup_card", "stolen_card"}
)
HISTORY_LIMIT: Final = 100
ATTEMPTS_LIMIT: Final = 50
REFUNDS_LIMIT: Final = 200
"""A payment is one document; every refund, also a refused one, is written with it."""


class PaymentStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"

    def may_become(self, other: "PaymentStatus") -> bool:
        return other in TRANSITIONS[self]

    @property
    def is_paid(self) -> bool:
        return self in PAID_STATUSES


_S = PaymentStatus
PAID_STATUSES: Final = frozenset({_S.SUCCEEDED, _S.PARTIALLY_REFUNDED, _S.REFUNDED})

TRANSITIONS: Final[Mapping[PaymentStatus, frozenset[PaymentStatus]]] = {
    _S.PENDING: frozenset({_S.PROCESSING, _S.SUCCEEDED, _S.FAILED, _S.CANCELED}),
    _S.PROCESSING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELED}),
    # A declined card may be tried again; a failed credits payment may not (see Payment.is_final).
    _S.FAILED: frozenset({_S.PENDING, _S.PROCESSING, _S.SUCCEEDED, _S.CANCELED}),
    _S.SUCCEEDED: frozenset({_S.PARTIALLY_REFUNDED, _S.REFUNDED}),
    _S.PARTIALLY_REFUNDED: frozenset({_S.REFUNDED}),
    _S.REFUNDED: frozenset(),
    _S.CANCELED: frozenset(),
}
"""Forward moves. The single way back is a refund that failed after it had succeeded: see
settle_refund.
"""


class PaymentMethod(StrEnum):
    CARD = "card"
    CREDITS = "credits"


class PaymentFlow(StrEnum):
    """How the shopper pays: Stripe Elements, Stripe's hosted page, or the account's credits."""

    PAYMENT_INTENT = "payment_intent"
    CHECKOUT_SESSION = "checkout_session"
    CREDITS = "credits"

    @property
    def payment_method(self) -> PaymentMethod:
        return PaymentMethod.CREDITS if self is PaymentFlow.CREDITS else PaymentMethod.CARD


_ORDER_STATUS: Final = {
    _S.SUCCEEDED: OrderStatus.PAID,
    _S.PARTIALLY_REFUNDED: OrderStatus.PARTIALLY_REFUNDED,
    _S.REFUNDED: OrderStatus.REFUNDED,
}


class ReviewReason(StrEnum):
    """Why a payment waits for a person. Held payments are never fulfilled by the service."""

    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    PAID_AFTER_CANCELLATION = "paid_after_cancellation"
    PAID_TWICE = "paid_twice"


@dataclass(frozen=True, slots=True)
class Review:
    reason: ReviewReason
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt failed. ``decline_code`` is the issuer's and not always fit for the
    shopper.
    """

    code: str
    message: str
    decline_code: str | None = None

    @property
    def public_decline_code(self) -> str:
        """For the shopper, who may be a thief: https://docs.stripe.com/declines/codes"""
        code = self.decline_code or self.code
        return GENERIC_DECLINE if code in _CONFIDENTIAL_DECLINE_CODES else code


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit trail. ``cause`` names what moved the payment, an event's id say."""

    at: datetime
    from_status: PaymentStatus
    to_status: PaymentStatus
    cause: str


@dataclass(frozen=True, slots=True)
class CheckoutDetails:
    """Kept because a repeated request to Stripe must be the same to the letter.

    ``customer_email`` only until the session is recorded or the payment is over.
    """

    success_url: str
    cancel_url: str
    customer_email: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class ElementsDetails:
    """As CheckoutDetails; none of it is kept once the PaymentIntent is recorded."""

    receipt_email: str | None = None
    description: str | None = None


class Work(StrEnum):
    """What a payment may still wait for; a payment without any is at rest."""

    OUTCOME = "outcome"
    REFUND = "refund"
    ORDER = "order"
    MARKS = "marks"


class _Facts(TypedDict):
    """What a refusal tells of a payment that is over; ``held`` while a person checks it."""

    payment_id: str
    payment_status: str
    order_id: str | None
    held: NotRequired[bool]


@dataclass(frozen=True, slots=True)
class Payment:
    """Amounts in minor units. ``credits`` is the price in credits, 0 for a card payment.

    ``refundable_amount`` and ``refundable_credits`` are what no refund has reserved yet.
    ``confirmation_id`` is ours, of the latest attempt that we asked Stripe to make;
    ``stripe_attempt_id`` is Stripe's (a charge or payment method id), of the latest known to us.
    ``open_marks`` are the marks that this payment left in the user's document.
    ``order_status`` is what was last written to the order; None while there is no order.
    ``reconcile_at`` is when the reconciler looks at the payment; None when it is at rest.
    """

    payment_id: str
    user_id: str
    flow: PaymentFlow
    status: PaymentStatus
    amount: int
    currency: str
    created_at: datetime
    updated_at: datetime
    items: tuple[CartItem, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    credits: int = 0
    checkout: CheckoutDetails | None = None
    elements: ElementsDetails | None = None
    stripe_payment_intent_id: str | None = None
    stripe_checkout_session_id: str | None = None
    confirmation_id: str | None = None
    stripe_attempt_id: str | None = None
    failed_attempts: tuple[str, ...] = ()
    failure: Failure | None = None
    succeeded_at: datetime | None = None
    refundable_amount: int = 0
    refundable_credits: int = 0
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    fraud_warnings: tuple[FraudWarning, ...] = ()
    open_marks: tuple[str, ...] = ()
    order_status: OrderStatus | None = None
    review: Review | None = None
    history: tuple[Change, ...] = ()
    revision: int = 0
    reconcile_at: datetime | None = None
    reconcile_attempts: int = 0

    # What a payment is

    @property
    def payment_method(self) -> PaymentMethod:
        return self.flow.payment_method

    @property
    def order_id(self) -> str | None:
        """None until the order exists."""
        return order_id_of(self.payment_id) if self.order_status is not None else None

    @property
    def refunded_amount(self) -> int:
        """What has been given back for good or at least until Stripe says otherwise."""
        return sum(r.amount for r in self.refunds if r.status is RefundStatus.SUCCEEDED)

    @property
    def amount_refunded_at_stripe(self) -> int:
        """What Stripe has given back or is giving back, as far as it is recorded."""
        return sum(
            r.amount
            for r in self.refunds
            if r.status.holds_money and r.stripe_refund_id is not None
        )

    @property
    def refunded_credits(self) -> int:
        return sum(r.credits for r in self.refunds if r.status is RefundStatus.SUCCEEDED)

    @property
    def due_order_status(self) -> OrderStatus | None:
        """What the order must say; None for a payment that may not have one."""
        return _ORDER_STATUS.get(self.status)

    @property
    def is_final(self) -> bool:
        """Whether the outcome (paid or not) is decided."""
        if self.status is PaymentStatus.FAILED:
            return self.flow is PaymentFlow.CREDITS
        return self.status.is_paid or self.status is PaymentStatus.CANCELED

    @property
    def is_over(self) -> bool:
        """Whether no attempt to pay it may be made: decided, or paid and held for a person."""
        return self.is_final or self.review is not None

    @property
    def is_payable(self) -> bool:
        """Whether a shopper may be sent to pay it; by card, one that was declined too."""
        is_open = self.status in (PaymentStatus.PENDING, PaymentStatus.FAILED)
        return is_open and not self.is_over

    @property
    def was_tried(self) -> bool:
        """Whether an attempt has moved it or failed: an older snapshot of it may then mislead."""
        return bool(self.history or self.failed_attempts)

    @property
    def unfinished(self) -> frozenset[Work]:
        work = set()
        if not self.is_final and self.review is None:
            work.add(Work.OUTCOME)
        if any(refund.status is RefundStatus.PENDING for refund in self.refunds):
            work.add(Work.REFUND)
        if self.order_status is not self.due_order_status:
            work.add(Work.ORDER)
        if self.open_marks:
            work.add(Work.MARKS)
        return frozenset(work)

    def refund(self, refund_id: str) -> Refund | None:
        return next((r for r in self.refunds if r.refund_id == refund_id), None)

    def refund_from_stripe(self, stripe_refund_id: str) -> Refund | None:
        return next((r for r in self.refunds if r.stripe_refund_id == stripe_refund_id), None)

    def recorded(self, report: IssuerReport) -> IssuerReport | None:
        """The dispute or fraud warning of this id, as it is recorded."""
        reports: tuple[IssuerReport, ...] = getattr(self, report.kept_in)
        return next((each for each in reports if each.stripe_id == report.stripe_id), None)

    def require_payable(self) -> None:
        """Raises PaymentNotConfirmable, saying what became of the payment."""
        if self.is_payable:
            return
        if self.review is not None:
            detail = "This payment was paid and the shop is checking it; please do not pay again."
        elif self.status.is_paid:
            detail = "This payment has been paid already."
        elif self.status is PaymentStatus.PROCESSING:
            detail = (
                "This payment was submitted already. If you have a voucher or transfer "
                "instructions, use those; otherwise there is nothing more to do."
            )
        else:
            detail = f"This payment is {self.status.value} and cannot be paid. Please start again."
        raise self.not_confirmable(detail)

    def require_cancelable(self) -> None:
        """Raises PaymentNotCancelable for a payment that is paid or held."""
        if self.review is not None:
            detail = "This payment was paid and the shop is checking it, so it cannot be canceled."
        elif self.status is PaymentStatus.REFUNDED:
            detail = "This payment has been paid and refunded already."
        elif self.status.is_paid:
            detail = "This payment has been paid and can no longer be canceled, only refunded."
        else:
            return
        raise self.not_cancelable(detail)

    def not_confirmable(self, detail: str) -> PaymentNotConfirmable:
        return PaymentNotConfirmable(detail, **self._facts)

    def not_cancelable(self, detail: str) -> PaymentNotCancelable:
        return PaymentNotCancelable(detail, **self._facts)

    @property
    def _facts(self) -> "_Facts":
        facts: _Facts = {
            "payment_id": self.payment_id,
            "payment_status": self.status.value,
            "order_id": self.order_id,
        }
        return {**facts, "held": True} if self.review is not None else facts

    # How its outcome is decided

    def with_payment_intent(self, stripe_payment_intent_id: str, *, now: datetime) -> Self:
        """Records Stripe's id once; a payment never changes to another PaymentIntent."""
        if self.stripe_payment_intent_id is not None:
            return self
        return self._changed(
            now, stripe_payment_intent_id=stripe_payment_intent_id, **self._without_contacts()
        )

    def with_checkout_session(self, stripe_checkout_session_id: str, *, now: datetime) -> Self:
        if self.stripe_checkout_session_id is not None:
            return self
        return self._changed(
            now, stripe_checkout_session_id=stripe_checkout_session_id, **self._without_contacts()
        )

    def start_confirmation(self, confirmation_id: str, *, now: datetime) -> Self:
        """Recorded before Stripe is asked, so that the reconciler follows the attempt up if the
        answer is lost.
        """
        if self.confirmation_id == confirmation_id:
            return self
        return self._changed(now, confirmation_id=confirmation_id)

    def succeed(self, *, stripe_attempt_id: str | None = None, now: datetime, cause: str) -> Self:
        """The money is ours: the payment may be refunded from now on."""
        if not self._may_become(PaymentStatus.SUCCEEDED):
            return self
        return self._moved(
            PaymentStatus.SUCCEEDED,
            now,
            cause,
            stripe_attempt_id=stripe_attempt_id or self.stripe_attempt_id,
            failure=None,
            succeeded_at=now,
            refundable_amount=self.amount,
            refundable_credits=self.credits,
        )

    def process(self, *, stripe_attempt_id: str | None, now: datetime, cause: str) -> Self:
        """A delayed payment method was submitted; Stripe tells the outcome later."""
        if stripe_attempt_id in self.failed_attempts or not self._may_become(
            PaymentStatus.PROCESSING
        ):
            return self
        return self._moved(
            PaymentStatus.PROCESSING,
            now,
            cause,
            stripe_attempt_id=stripe_attempt_id or self.stripe_attempt_id,
            failure=None,
        )

    def reopen(self, *, now: datetime, cause: str) -> Self:
        """A new attempt is under way after a failed one."""
        if self.status is not PaymentStatus.FAILED or not self._may_become(PaymentStatus.PENDING):
            return self
        return self._moved(PaymentStatus.PENDING, now, cause, failure=None)

    def fail(
        self, failure: Failure, *, stripe_attempt_id: str | None, now: datetime, cause: str
    ) -> Self:
        """``stripe_attempt_id`` failed. A failure that was recorded before changes nothing."""
        if stripe_attempt_id is not None and stripe_attempt_id in self.failed_attempts:
            return self
        failed_attempts = self.failed_attempts
        if stripe_attempt_id is not None:
            failed_attempts = (*failed_attempts, stripe_attempt_id)[-ATTEMPTS_LIMIT:]
        attempts = {
            "stripe_attempt_id": stripe_attempt_id or self.stripe_attempt_id,
            "failed_attempts": failed_attempts,
        }
        if self.status is PaymentStatus.FAILED and not self.is_final:
            return self._changed(now, failure=failure, **attempts)
        if not self._may_become(PaymentStatus.FAILED):
            return self
        return self._moved(PaymentStatus.FAILED, now, cause, failure=failure, **attempts)

    def note_failed_attempt(self, stripe_attempt_id: str, *, now: datetime) -> Self:
        """An older attempt's failure: remembered, and nothing else."""
        if stripe_attempt_id in self.failed_attempts:
            return self
        return self._changed(
            now, failed_attempts=(*self.failed_attempts, stripe_attempt_id)[-ATTEMPTS_LIMIT:]
        )

    def cancel(self, *, now: datetime, cause: str) -> Self:
        if not self._may_become(PaymentStatus.CANCELED):
            return self
        return self._moved(PaymentStatus.CANCELED, now, cause, **self._without_contacts())

    def objection_to(self, amount: int, currency: str) -> tuple[ReviewReason, str] | None:
        """Why a payment of ``amount`` is not what was asked for; None when it is."""
        if currency != self.currency:
            detail = f"Paid in {currency.upper()}, asked for {self.currency.upper()}."
            return ReviewReason.CURRENCY_MISMATCH, detail
        if amount != self.amount:
            asked = display(self.amount, currency)
            detail = f"Paid {display(amount, currency)}, asked for {asked}."
            return ReviewReason.AMOUNT_MISMATCH, detail
        if self.status is PaymentStatus.CANCELED:
            detail = "The payment was canceled before the money arrived."
            return ReviewReason.PAID_AFTER_CANCELLATION, detail
        return None

    def hold(self, reason: ReviewReason, detail: str, *, now: datetime) -> Self:
        """Leaves the payment for a person to look at; the first reason stays."""
        if self.review is not None:
            return self
        return self._changed(now, review=Review(reason, detail, now))

    # Its order

    def record_order(self, status: OrderStatus, *, now: datetime) -> Self:
        """The order now says ``status``; ignored when the payment has moved on meanwhile."""
        if self.order_status is status or self.due_order_status is not status:
            return self
        return self._changed(now, order_status=status)

    # Its refunds

    def reserve_refund(
        self,
        refund_id: str,
        *,
        amount: int | None,
        credits: int | None,
        reason: str | None,
        now: datetime,
    ) -> Self:
        """Takes the refund out of what remains, before anyone is asked to make it.

        A card payment is refunded by ``amount``, a credits payment by ``credits`` (or by an
        ``amount`` that is worth a whole number of them); neither means all that remains.
        Raises PaymentNotRefundable, InvalidAmountForCurrency or RefundExceedsRemaining.
        """
        if self.refund(refund_id) is not None:
            return self
        if not self.status.is_paid:
            raise PaymentNotRefundable(
                f"The payment is {self.status.value}; only a paid payment can be refunded."
            )
        if self.refundable_amount == 0 and self.refundable_credits == 0:
            raise PaymentNotRefundable("Nothing remains to be refunded.")
        if len(self.refunds) >= REFUNDS_LIMIT:
            raise PaymentNotRefundable(
                f"The payment has {REFUNDS_LIMIT} refunds already, failed ones included; "
                "make this one in Stripe's Dashboard."
            )
        refundable = Refundable(
            self.amount,
            self.credits,
            self.currency,
            self.refundable_amount,
            self.refundable_credits,
        )
        amount, credits = refundable.measure(amount=amount, credits=credits)
        refund = Refund(refund_id, amount, credits, RefundStatus.PENDING, now, now, reason)
        marks = (*self.open_marks, refund_id) if credits else self.open_marks
        return self._with_reservation(refund, now, open_marks=marks)

    def take_over_refund(
        self,
        stripe_refund_id: str,
        *,
        amount: int,
        reason: str | None,
        now: datetime,
        status: RefundStatus = RefundStatus.PENDING,
        failure_reason: str | None = None,
    ) -> Self:
        """Records a refund that was made at Stripe without us, as pending; settle_refund follows.

        One that failed before we heard of it is recorded as it is and reserves nothing, so that the
        late news of its making change nothing. Raises RefundExceedsRemaining while our own pending
        refunds reserve what Stripe gave back.
        """
        if self.refund_from_stripe(stripe_refund_id) is not None:
            return self
        refund = Refund(
            refund_id_of_stripe_refund(stripe_refund_id),
            amount,
            0,
            RefundStatus.PENDING if status.holds_money else status,
            now,
            now,
            reason,
            stripe_refund_id,
            failure_reason,
        )
        if not refund.status.holds_money:
            return self._changed(now, refunds=(*self.refunds, refund))
        if amount > self.refundable_amount:
            raise RefundExceedsRemaining(
                f"Stripe refunded {amount}, but only {self.refundable_amount} remain here.",
                remaining=self.refundable_amount,
            )
        return self._with_reservation(refund, now)

    def settle_refund(
        self,
        refund_id: str,
        status: RefundStatus,
        *,
        now: datetime,
        cause: str,
        stripe_refund_id: str | None = None,
        failure_reason: str | None = None,
    ) -> Self:
        """Moves one refund forward and the payment's status with it.

        A refund that fails gives its reservation back. If it had succeeded before, the payment is
        no longer refunded: that is the only way a payment's status ever goes back, and the truth.
        """
        before = self.refund(refund_id)
        if before is None:
            return self
        moves = before.status.may_become(status)
        learns_id = stripe_refund_id is not None and before.stripe_refund_id is None
        if not moves and not learns_id:
            return self
        after = replace(
            before,
            status=status if moves else before.status,
            stripe_refund_id=before.stripe_refund_id or stripe_refund_id,
            failure_reason=failure_reason or before.failure_reason,
            updated_at=now,
        )
        released = before.status.holds_money and not after.status.holds_money
        refunds = tuple(after if r.refund_id == refund_id else r for r in self.refunds)
        settled = self._changed(
            now,
            refunds=refunds,
            refundable_amount=self.refundable_amount + (after.amount if released else 0),
            refundable_credits=self.refundable_credits + (after.credits if released else 0),
        )
        standing = settled._standing()
        if standing is self.status:
            return settled
        # Somebody may be writing the order as the status before has it, and may die before that is
        # recorded: the order counts as saying so, or a status that comes back would leave it wrong.
        said = self.due_order_status if self.order_status is not None else None
        return settled._moved(standing, now, cause, order_status=said)

    # What else happens to it

    def record_issuer_report(
        self, report: IssuerReport, *, instead_of: IssuerReport | None, now: datetime
    ) -> Self:
        """Only while it is recorded as ``instead_of`` (None: not at all)."""
        known = self.recorded(report)
        if known != instead_of or says_the_same(report, known):
            return self
        report = replace(report, updated_at=now)
        reports: tuple[IssuerReport, ...] = getattr(self, report.kept_in)
        if known is None:
            reports = (*reports, report)
        else:
            reports = tuple(report if each is known else each for each in reports)
        return self._changed(now, **{report.kept_in: reports})

    def close_marks(self, keys: frozenset[str], *, now: datetime) -> Self:
        """The marks were removed from the user's document."""
        remaining = tuple(key for key in self.open_marks if key not in keys)
        return self if remaining == self.open_marks else self._changed(now, open_marks=remaining)

    def looked_at(self) -> Self:
        """The reconciler found nothing to move: it waits longer before it looks again."""
        return replace(self, reconcile_attempts=self.reconcile_attempts + 1)

    # How the above is done

    def _may_become(self, status: PaymentStatus) -> bool:
        return not self.is_final and self.status.may_become(status)

    def _without_contacts(self) -> dict[str, Any]:
        """What Stripe was given and is kept no longer than a request to it may be repeated."""
        checkout = self.checkout and replace(self.checkout, customer_email=None)
        return {"checkout": checkout, "elements": None}

    def _changed(self, now: datetime, **changes: Any) -> Self:
        return replace(self, updated_at=now, reconcile_attempts=0, **changes)

    def _moved(self, status: PaymentStatus, now: datetime, cause: str, **changes: Any) -> Self:
        line = Change(now, self.status, status, cause)
        return self._changed(
            now, status=status, history=(*self.history, line)[-HISTORY_LIMIT:], **changes
        )

    def _with_reservation(self, refund: Refund, now: datetime, **changes: Any) -> Self:
        return self._changed(
            now,
            refunds=(*self.refunds, refund),
            refundable_amount=self.refundable_amount - refund.amount,
            refundable_credits=self.refundable_credits - refund.credits,
            **changes,
        )

    def _standing(self) -> PaymentStatus:
        """A paid payment's status, as its refunds say."""
        if not self.status.is_paid:
            return self.status
        if self.payment_method is PaymentMethod.CREDITS:
            refunded, paid = self.refunded_credits, self.credits
        else:
            refunded, paid = self.refunded_amount, self.amount
        if refunded == 0:
            return PaymentStatus.SUCCEEDED
        return PaymentStatus.REFUNDED if refunded >= paid else PaymentStatus.PARTIALLY_REFUNDED
