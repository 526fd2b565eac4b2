"""The one way a payment is written: compare and swap, schedule what is unfinished, tell the
metrics.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.clock import Clock
from app.domain.payments import (
    CheckoutDetails,
    ElementsDetails,
    Payment,
    PaymentFlow,
    PaymentStatus,
)
from app.domain.schedule import next_look_at
from app.metrics import Metrics
from app.observability import get_logger
from app.repositories.payments import PaymentRepository
from app.services.purchases import Purchase

KEY_IS_GOOD_FOR: Final = timedelta(hours=23)
"""Stripe forgets an idempotency key after a day of its own clock, and would then make a second
PaymentIntent for the payment: https://docs.stripe.com/api/idempotent_requests
"""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcilePolicy:
    """``after``: how old unfinished work must be. ``abandon_after``: when an unpaid payment is
    given up.
    """

    after: timedelta
    abandon_after: timedelta


class PaymentWriter:
    def __init__(
        self,
        payments: PaymentRepository,
        *,
        clock: Clock,
        policy: ReconcilePolicy,
        metrics: Metrics,
    ) -> None:
        self._payments = payments
        self._clock = clock
        self._policy = policy
        self._metrics = metrics

    async def open(
        self,
        payment_id: str,
        flow: PaymentFlow,
        purchase: Purchase,
        *,
        amount: int,
        credits: int = 0,
        checkout: CheckoutDetails | None = None,
        elements: ElementsDetails | None = None,
    ) -> Payment:
        """Records a pending payment before anything is charged; ``amount`` is in minor units.

        A repeated request gets the payment that its first try recorded.
        """
        now = self._clock()
        payment = Payment(
            payment_id=payment_id,
            user_id=purchase.user_id,
            flow=flow,
            status=PaymentStatus.PENDING,
            amount=amount,
            currency=purchase.currency,
            credits=credits,
            items=purchase.items or (),
            metadata=purchase.metadata,
            checkout=checkout,
            elements=elements,
            open_marks=(payment_id,) if flow is PaymentFlow.CREDITS else (),
            created_at=now,
            updated_at=now,
        )
        return await self._payments.add(self._scheduled(payment))

    async def apply(self, payment: Payment, change: Callable[[Payment], Payment]) -> Payment:
        """Applies a domain method to the payment as it is stored now, and returns the result.

        ``change`` is tried on ``payment`` as the caller knows it. If somebody else saved meanwhile,
        it is tried again on the stored one: it must be pure. What it raises is raised.
        """
        current = payment
        while True:
            changed = change(current)
            if changed is current:
                return current
            saved = await self._payments.save(current, self._scheduled(changed))
            if saved is not None:
                self._announce(current, saved)
                return saved
            current = await self._payments.get(current.payment_id)

    async def find(self, payment_id: str) -> tuple[Payment | None, datetime]:
        """The payment, and when it was read: a change of the user's credits must say so, with a
        time that is not later than the read (see ``repositories/users.py``).
        """
        as_of = self._clock()
        return await self._payments.find(payment_id), as_of

    async def read(self, payment_id: str) -> tuple[Payment, datetime]:
        """As ``find``; raises PaymentNotFound."""
        as_of = self._clock()
        return await self._payments.get(payment_id), as_of

    def is_abandoned(self, payment: Payment) -> bool:
        """Whether the payment has stayed unpaid for so long that it is given up."""
        return self._clock() >= payment.created_at + self._policy.abandon_after

    def may_be_made_at_stripe(self, payment: Payment) -> bool:
        """Whether asking again returns what Stripe may have made before, not a second one."""
        return self._clock() < payment.created_at + KEY_IS_GOOD_FOR and not self.is_abandoned(
            payment
        )

    async def give_up(self, payment: Payment, *, cause: str) -> Payment:
        """Cancels a payment of which nothing is open at Stripe.

        Not when its PaymentIntent or session was recorded since the payment was read: a shopper may
        be on the way there, so that is closed at Stripe first.
        """

        def change(known: Payment) -> Payment:
            was_opened = (
                known.stripe_payment_intent_id != payment.stripe_payment_intent_id
                or known.stripe_checkout_session_id != payment.stripe_checkout_session_id
            )
            return known if was_opened else known.cancel(now=self._clock(), cause=cause)

        return await self.apply(payment, change)

    def _scheduled(self, payment: Payment) -> Payment:
        return replace(
            payment,
            reconcile_at=next_look_at(
                payment,
                now=self._clock(),
                after=self._policy.after,
                abandon_after=self._policy.abandon_after,
            ),
        )

    def _announce(self, before: Payment, after: Payment) -> None:
        if after.status is not before.status:
            self._metrics.count_payment(after.payment_method.value, after.status.value)
            log.info(
                "payment.status_changed",
                payment_id=after.payment_id,
                from_status=before.status.value,
                to_status=after.status.value,
                cause=after.history[-1].cause,
                amount=after.amount,
                currency=after.currency,
            )
        if after.review is not None and before.review is None:
            self._metrics.count_payment_held_for_review(after.review.reason.value)
            log.error(
                "payment.held_for_review",
                payment_id=after.payment_id,
                reason=after.review.reason.value,
                detail=after.review.detail,
            )
        for refund in after.refunds:
            known = before.refund(refund.refund_id)
            if known is None or known.status is not refund.status:
                self._metrics.count_refund(refund.status.value)
                log.info(
                    "refund.status_changed",
                    payment_id=after.payment_id,
                    refund_id=refund.refund_id,
                    status=refund.status.value,
                    amount=refund.amount,
                    credits=refund.credits,
                )
        for dispute in after.disputes:
            earlier = before.recorded(dispute)
            if earlier is None:
                log.warning(
                    "payment.disputed",
                    payment_id=after.payment_id,
                    stripe_dispute_id=dispute.stripe_dispute_id,
                    status=dispute.status,
                    amount=dispute.amount,
                )
            elif earlier.status != dispute.status:
                log.info(
                    "dispute.status_changed",
                    payment_id=after.payment_id,
                    stripe_dispute_id=dispute.stripe_dispute_id,
                    from_status=earlier.status,
                    to_status=dispute.status,
                    amount=dispute.amount,
                )
        for warning in after.fraud_warnings:
            if before.recorded(warning) is None:
                log.warning(
                    "payment.fraud_warning",
                    payment_id=after.payment_id,
                    stripe_fraud_warning_id=warning.stripe_fraud_warning_id,
                    fraud_type=warning.fraud_type,
                    actionable=warning.actionable,
                )
