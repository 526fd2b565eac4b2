"""What Stripe says about refunds, applied to ours, those that were made in the Dashboard too.

Events, the caller's flow and the reconciler come here, as they come to card_outcomes.py with what
Stripe says about a payment.
"""

from app.domain.clock import Clock
from app.domain.payments import Payment
from app.domain.refunds import Refund
from app.errors import EventNotYetApplicable, RefundExceedsRemaining
from app.gateways.payments import PaymentGateway, RefundSnapshot
from app.services.payment_writer import PaymentWriter
from app.services.refund_making import RefundMaker


class RefundOutcomes:
    def __init__(
        self,
        writer: PaymentWriter,
        maker: RefundMaker,
        gateway: PaymentGateway,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._maker = maker
        self._gateway = gateway
        self._clock = clock

    async def observe(
        self, payment: Payment, snapshot: RefundSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        """Unless ``is_current`` (Stripe was just asked), Stripe is asked for the amount of a refund
        that is not recorded: an event may be in the format of another API version.

        Raises EventNotYetApplicable while our own pending refunds reserve what Stripe gave back.
        """
        refund = _find_refund(payment, snapshot)
        if refund is None:
            if not is_current:
                snapshot = await self._gateway.retrieve_refund(snapshot.stripe_refund_id)
            payment = await self._take_over(payment, snapshot)
            refund = _find_refund(payment, snapshot)
            if refund is None:
                raise LookupError(f"{payment.payment_id} did not take over a refund")
        return await self._maker.settle(payment, refund, snapshot, cause=cause)

    async def observe_all(self, payment: Payment, *, cause: str) -> Payment:
        """All refunds of the payment that Stripe has."""
        for snapshot in await self._maker.list_at_stripe(payment):
            payment = await self.observe(payment, snapshot, cause=cause, is_current=True)
        return payment

    async def _take_over(self, payment: Payment, snapshot: RefundSnapshot) -> Payment:
        if not payment.status.is_paid:
            raise EventNotYetApplicable("The payment is not known as paid yet.", retry_after=30)

        def change(known: Payment) -> Payment:
            if _find_refund(known, snapshot) is not None:
                # One of ours, made by another worker since the payment was read.
                return known
            return known.take_over_refund(
                snapshot.stripe_refund_id,
                amount=snapshot.amount,
                reason=snapshot.reason,
                now=self._clock(),
                status=snapshot.status,
                failure_reason=snapshot.failure_reason,
            )

        try:
            return await self._writer.apply(payment, change)
        except RefundExceedsRemaining:
            # Refunds of ours reserve what Stripe gave back already; Stripe decides them first.
            payment, as_of = await self._writer.read(payment.payment_id)
            payment = await self._maker.resume(payment, as_of=as_of)
        try:
            return await self._writer.apply(payment, change)
        except RefundExceedsRemaining as exceeds:
            raise EventNotYetApplicable(exceeds.detail, retry_after=30) from exceeds


def _find_refund(payment: Payment, snapshot: RefundSnapshot) -> Refund | None:
    """By Stripe's id, or by ours, which Stripe was given and which may be all that is recorded."""
    refund = payment.refund_from_stripe(snapshot.stripe_refund_id)
    if refund is None and snapshot.refund_id is not None:
        refund = payment.refund(snapshot.refund_id)
    return refund
