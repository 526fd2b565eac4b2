"""Finding a payment for a caller: what is not theirs does not exist."""

from datetime import datetime

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import Payment
from app.errors import CheckoutSessionNotFound, PaymentNotFound
from app.repositories.payments import PaymentRepository


class PaymentLookup:
    def __init__(self, payments: PaymentRepository, *, clock: Clock) -> None:
        self._payments = payments
        self._clock = clock

    async def read(self, caller: Caller, any_id: str) -> tuple[Payment, datetime]:
        """As ``get``, and when it was read: see ``PaymentWriter.read``."""
        as_of = self._clock()
        return await self.get(caller, any_id), as_of

    async def get(self, caller: Caller, any_id: str) -> Payment:
        """By our id, a PaymentIntent id or a Checkout Session id. Raises PaymentNotFound."""
        if any_id.startswith("pi_"):
            payment = await self._payments.find_by_payment_intent(any_id)
        elif any_id.startswith("cs_"):
            payment = await self._payments.find_by_checkout_session(any_id)
        else:
            payment = await self._payments.find(any_id)
        if payment is None or not caller.may_see(payment.user_id):
            raise PaymentNotFound("There is no such payment.")
        return payment

    async def get_by_payment_intent(self, caller: Caller, stripe_payment_intent_id: str) -> Payment:
        """Raises PaymentNotFound."""
        payment = await self._payments.find_by_payment_intent(stripe_payment_intent_id)
        if payment is None or not caller.may_see(payment.user_id):
            raise PaymentNotFound("There is no such payment.")
        return payment

    async def get_by_checkout_session(
        self, caller: Caller, stripe_checkout_session_id: str
    ) -> Payment:
        """Raises CheckoutSessionNotFound."""
        payment = await self._payments.find_by_checkout_session(stripe_checkout_session_id)
        if payment is None or not caller.may_see(payment.user_id):
            raise CheckoutSessionNotFound("There is no such Checkout Session.")
        return payment
