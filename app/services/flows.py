"""The three ways to pay, as what is done with each of them alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from app.domain.payments import Payment, PaymentFlow


class Flow(Protocol):
    async def finish(self, payment: Payment, *, as_of: datetime) -> Payment:
        """Moves a payment whose outcome is open as far as it goes now: makes what was not made,
        applies what is known of the money, and closes what was abandoned.

        ``as_of`` is when the payment was read.
        """
        ...

    async def cancel(self, payment: Payment, *, as_of: datetime, cause: str) -> Payment:
        """Closes the payment, unless it is paid meanwhile; what is returned says which."""
        ...


Flows = Mapping[PaymentFlow, Flow]


def flows_of(*, intents: Flow, checkout: Flow, credits: Flow) -> Flows:
    return {
        PaymentFlow.PAYMENT_INTENT: intents,
        PaymentFlow.CHECKOUT_SESSION: checkout,
        PaymentFlow.CREDITS: credits,
    }
