"""Disputes and early fraud warnings: a payment shows the present state of each.

https://docs.stripe.com/disputes, https://docs.stripe.com/radar/early-fraud-warnings
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from app.domain.clock import Clock
from app.domain.issuer_reports import IssuerReport, says_the_same
from app.domain.payments import Payment
from app.errors import DependencyFailure
from app.gateways.payments import StripeObjectMissing
from app.services.payment_writer import PaymentWriter


class IssuerReportRecorder:
    def __init__(self, writer: PaymentWriter, *, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def observe(
        self, payment: Payment, told: IssuerReport, *, ask: Callable[[str], Awaitable[IssuerReport]]
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
            except DependencyFailure:
                if known is None:
                    # Better than nothing, should the key not be allowed to read it.
                    await self._writer.apply(
                        payment, partial(_record, report=told, instead_of=None, now=self._clock())
                    )
                raise
            payment = await self._writer.apply(
                payment,
                partial(_record, report=present, instead_of=known, now=self._clock()),
            )
            known = payment.recorded(told)
            if says_the_same(present, known):
                return


def _record(
    payment: Payment, report: IssuerReport, instead_of: IssuerReport | None, now: datetime
) -> Payment:
    return payment.record_issuer_report(report, instead_of=instead_of, now=now)
