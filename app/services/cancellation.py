"""A payment that its owner no longer wants: closed at Stripe, then here."""

from typing import Final

from app.domain.callers import Caller
from app.domain.payments import Payment
from app.services.flows import Flows
from app.services.lookup import PaymentLookup

CAUSE: Final = "canceled by the caller"


class CancellationService:
    def __init__(self, lookup: PaymentLookup, flows: Flows) -> None:
        self._lookup = lookup
        self._flows = flows

    async def cancel(self, caller: Caller, any_id: str) -> Payment:
        """The payment, which cannot be paid any more. Canceling it again changes nothing.

        Stripe decides between this and a shopper who is paying: raises PaymentNotCancelable for a
        payment that is paid, held for review, or being processed by the bank. Raises
        PaymentNotFound.
        """
        payment, as_of = await self._lookup.read(caller, any_id)
        payment.require_cancelable()
        if payment.is_final:
            return payment
        payment = await self._flows[payment.flow].cancel(payment, as_of=as_of, cause=CAUSE)
        if payment.is_final and not payment.status.is_paid:
            return payment
        payment.require_cancelable()
        raise payment.not_cancelable(
            "This payment was submitted and is at the bank, so it cannot be canceled now."
        )
