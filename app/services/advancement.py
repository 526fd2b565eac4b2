"""Moves one payment on, through the same services as everyone else who learns of its state."""

from datetime import datetime, timedelta
from typing import Final

from app.domain.clock import Clock
from app.domain.payments import Payment, Work
from app.repositories.documents import UnreadableDocument
from app.repositories.payments import PaymentRepository
from app.services.credits import CreditsService
from app.services.flows import Flows
from app.services.fulfilment import FulfilmentService
from app.services.payment_writer import PaymentWriter
from app.services.refund_making import RefundMaker

UNREADABLE_WAIT: Final = timedelta(hours=1)
"""For a person, or for the version of the service that can read it."""


class PaymentAdvancer:
    def __init__(
        self,
        writer: PaymentWriter,
        payments: PaymentRepository,
        flows: Flows,
        credits: CreditsService,
        fulfilment: FulfilmentService,
        refunds: RefundMaker,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._payments = payments
        self._flows = flows
        self._credits = credits
        self._fulfilment = fulfilment
        self._refunds = refunds
        self._clock = clock

    async def advance(self, payment_id: str) -> Payment:
        """As far as it goes now. Raises PaymentNotFound."""
        payment, as_of = await self._writer.read(payment_id)
        before = payment.revision
        if Work.OUTCOME in payment.unfinished:
            payment = await self._flows[payment.flow].finish(payment, as_of=as_of)
        payment = await self._fulfilment.write_order(payment)
        if Work.REFUND in payment.unfinished:
            payment = await self._refunds.resume(payment, as_of=as_of)
        due = payment.reconcile_at is not None and payment.reconcile_at <= self._clock()
        if payment.unfinished == {Work.MARKS} and due:
            payment = await self._credits.remove_marks(payment)
        if payment.revision == before and payment.unfinished:
            payment = await self._writer.apply(payment, Payment.looked_at)
        return payment

    async def postpone(self, payment_id: str, *, due_at: datetime) -> None:
        """After a failure: a payment that was due at ``due_at`` is looked at later."""
        try:
            payment = await self._payments.get(payment_id)
            await self._writer.apply(payment, Payment.looked_at)
        except UnreadableDocument:
            # It would stay the first of those that are due, and enough of them would be all.
            await self._payments.postpone_unreadable(
                payment_id, now=due_at, until=self._clock() + UNREADABLE_WAIT
            )
