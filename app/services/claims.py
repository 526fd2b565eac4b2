"""Disputes and early fraud warnings: a payment shows the present state of each.

https://docs.stripe.com/disputes, https://docs.stripe.com/radar/early-fraud-warnings
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from app.domain.claims import Claim, says_the_same
from app.domain.clock import Clock
from app.domain.payments import Payment
from app.gateways.payments import StripeObjectMissing
from app.services.payment_writer import PaymentWriter


class ClaimRecorder:
    def __init__(self, writer: PaymentWriter, *, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def observe(
        self, payment: Payment, told: Claim, *, ask: Callable[[str], Awaitable[Claim]]
    ) -> None:
        """Records what Stripe says of it now, unless the event tells what is recorded already.

        Workers and instances do this at once, and no clock orders what they receive. So an answer
        is recorded only in place of what was recorded before Stripe was asked, else Stripe is asked
        again: each state that is recorded was fetched after the one before it was recorded.
        """
        known = payment.recorded(told)
        if says_the_same(told, known):
            return
        while True:
            try:
                present = await ask(told.stripe_id)
            except StripeObjectMissing:
                if known is not None:
                    return
                present = told
            payment = await self._writer.apply(
                payment,
                partial(_record, claim=present, instead_of=known, now=self._clock()),
            )
            known = payment.recorded(told)
            if says_the_same(present, known):
                return


def _record(payment: Payment, claim: Claim, instead_of: Claim | None, now: datetime) -> Payment:
    return payment.record_claim(claim, instead_of=instead_of, now=now)
