"""The single road from "paid" to an order; safe to walk twice, from anywhere, in any order."""

from app.domain.clock import Clock
from app.domain.orders import Order
from app.domain.payments import Payment
from app.repositories.orders import OrderRepository
from app.services.payment_writer import PaymentWriter


class FulfilmentService:
    def __init__(self, writer: PaymentWriter, orders: OrderRepository, *, clock: Clock) -> None:
        self._writer = writer
        self._orders = orders
        self._clock = clock

    async def fulfil(
        self,
        payment: Payment,
        *,
        amount: int,
        currency: str,
        stripe_attempt_id: str | None,
        cause: str,
        is_current: bool,
    ) -> Payment:
        """Stripe says that ``amount`` of ``currency`` was paid.

        The order is made only when that is what we asked for; otherwise the payment is held for a
        person, as it is when money arrives for a payment that was canceled. Unless ``is_current``
        (Stripe was just asked), a payment that would be held is left as it is.
        """

        def change(known: Payment) -> Payment:
            if known.status.is_paid:
                return known
            now = self._clock()
            objection = known.objection_to(amount, currency)
            if objection is not None:
                return known.hold(*objection, now=now) if is_current else known
            if known.review is not None:
                return known
            return known.succeed(stripe_attempt_id=stripe_attempt_id, now=now, cause=cause)

        return await self.write_order(await self._writer.apply(payment, change))

    async def write_order(self, payment: Payment) -> Payment:
        """Makes the order, or brings it up to date with the payment's refunds."""
        while payment.due_order_status is not payment.order_status:
            payment = await self._write_order_once(payment)
        return payment

    async def _write_order_once(self, payment: Payment) -> Payment:
        order = Order.of(payment)
        await self._orders.put(order)
        return await self._writer.apply(
            payment, lambda known: known.record_order(order.status, now=self._clock())
        )
