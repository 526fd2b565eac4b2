"""A reserved refund, made at Stripe or as credits, and settled: safe to do twice.

https://docs.stripe.com/refunds. A refund whose outcome is not known stays reserved and pending, and
is repeated with the same key until there is an answer: it is never made twice and never forgotten.
"""

from collections.abc import Sequence
from datetime import datetime

from app.domain.clock import Clock
from app.domain.payments import Payment, PaymentMethod
from app.domain.refunds import Refund, RefundStatus
from app.errors import DependencyFailure, UserNotFound
from app.gateways.payments import PaymentGateway, RefundSnapshot, StripeRefused
from app.observability import get_logger
from app.repositories.payments import PaymentRepository
from app.repositories.users import UserRepository
from app.services.fulfilment import FulfilmentService
from app.services.payment_writer import PaymentWriter

log = get_logger(__name__)


class RefundMaker:
    def __init__(
        self,
        writer: PaymentWriter,
        payments: PaymentRepository,
        fulfilment: FulfilmentService,
        users: UserRepository,
        gateway: PaymentGateway,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._payments = payments
        self._fulfilment = fulfilment
        self._users = users
        self._gateway = gateway
        self._clock = clock

    async def make(
        self, payment: Payment, refund: Refund, *, as_of: datetime, cause: str
    ) -> Payment:
        """``as_of`` is when the payment was read. Raises StripeRefused or UserNotFound for a refund
        that cannot be made, which has then failed; a DependencyFailure leaves it pending.
        """
        if payment.payment_method is PaymentMethod.CREDITS:
            return await self._give_back_credits(payment, refund, as_of)
        try:
            snapshot = await self._gateway.create_refund(payment, refund)
        except StripeRefused as refused:
            reason = refused.stripe_code or refused.param or "refused"
            await self._settle(
                payment, refund, RefundStatus.FAILED, cause=cause, failure_reason=reason
            )
            raise
        return await self.settle(payment, refund, snapshot, cause=cause)

    async def resume(self, payment: Payment, *, as_of: datetime) -> Payment:
        """Every pending refund is looked for at Stripe, and made if it is not there.

        ``as_of`` is when the payment was read. One refund's failure does not stop the others; the
        first is raised at the end.
        """
        failures: list[DependencyFailure | StripeRefused] = []
        for refund in payment.refunds:
            if refund.status is not RefundStatus.PENDING:
                continue
            try:
                payment = await self._resume(payment, refund, as_of)
            except (DependencyFailure, StripeRefused) as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return payment

    async def settle(
        self, payment: Payment, refund: Refund, snapshot: RefundSnapshot, *, cause: str
    ) -> Payment:
        """Records what Stripe says of the refund, and brings the order up to date."""
        return await self._settle(
            payment,
            refund,
            snapshot.status,
            cause=cause,
            stripe_refund_id=snapshot.stripe_refund_id,
            failure_reason=snapshot.failure_reason,
        )

    async def list_at_stripe(self, payment: Payment) -> Sequence[RefundSnapshot]:
        if payment.stripe_payment_intent_id is None:
            return ()
        return await self._gateway.list_refunds(payment.stripe_payment_intent_id)

    async def _resume(self, payment: Payment, refund: Refund, as_of: datetime) -> Payment:
        if refund.stripe_refund_id is not None:
            snapshot = await self._gateway.retrieve_refund(refund.stripe_refund_id)
            return await self.settle(payment, refund, snapshot, cause="reconciler")
        # Looked for first: Stripe may have made it, and forgets an idempotency key after a day.
        for snapshot in await self.list_at_stripe(payment):
            if snapshot.refund_id == refund.refund_id:
                return await self.settle(payment, refund, snapshot, cause="reconciler")
        try:
            return await self.make(payment, refund, as_of=as_of, cause="reconciler")
        except (StripeRefused, UserNotFound) as refused:
            log.warning(
                "refund.refused",
                payment_id=payment.payment_id,
                refund_id=refund.refund_id,
                stripe_code=refused.stripe_code if isinstance(refused, StripeRefused) else None,
                error=refused.code,
            )
            return await self._payments.get(payment.payment_id)

    async def _give_back_credits(
        self, payment: Payment, refund: Refund, as_of: datetime
    ) -> Payment:
        try:
            await self._users.give_back_credits(
                payment.user_id,
                refund_id=refund.refund_id,
                credits=refund.credits,
                as_of=as_of,
                now=self._clock(),
            )
        except UserNotFound:
            await self._settle(
                payment,
                refund,
                RefundStatus.FAILED,
                cause="refund",
                failure_reason=UserNotFound.code,
            )
            raise
        return await self._settle(payment, refund, RefundStatus.SUCCEEDED, cause="refund")

    async def _settle(
        self,
        payment: Payment,
        refund: Refund,
        status: RefundStatus,
        *,
        cause: str,
        stripe_refund_id: str | None = None,
        failure_reason: str | None = None,
    ) -> Payment:
        payment = await self._writer.apply(
            payment,
            lambda known: known.settle_refund(
                refund.refund_id,
                status,
                now=self._clock(),
                cause=f"{cause} {refund.refund_id}",
                stripe_refund_id=stripe_refund_id,
                failure_reason=failure_reason,
            ),
        )
        return await self._fulfilment.write_order(payment)
