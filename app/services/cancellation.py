"""A payment that its owner no longer wants: closed at Stripe, then here."""

from typing import Final

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import Payment, PaymentFlow, PaymentStatus
from app.errors import PaymentNotCancelable
from app.services.checkout import CheckoutService
from app.services.credits import CreditsService
from app.services.intents import IntentService
from app.services.lookup import PaymentLookup

CAUSE: Final = "canceled by the caller"


class CancellationService:
    def __init__(
        self,
        lookup: PaymentLookup,
        intents: IntentService,
        checkout: CheckoutService,
        credits: CreditsService,
        *,
        clock: Clock,
    ) -> None:
        self._lookup = lookup
        self._intents = intents
        self._checkout = checkout
        self._credits = credits
        self._clock = clock

    async def cancel(self, caller: Caller, any_id: str) -> Payment:
        """The payment, which cannot be paid any more. Canceling it again changes nothing.

        Stripe decides between this and a shopper who is paying: raises PaymentNotCancelable for a
        payment that is paid, held for review, or being processed by the bank. Raises
        PaymentNotFound.
        """
        as_of = self._clock()
        payment = await self._lookup.get(caller, any_id)
        if payment.status is PaymentStatus.CANCELED and payment.review is None:
            return payment
        payment.require_cancelable()
        match payment.flow:
            case PaymentFlow.PAYMENT_INTENT:
                payment = await self._intents.cancel(payment, cause=CAUSE)
            case PaymentFlow.CHECKOUT_SESSION:
                payment = await self._checkout.cancel(payment, cause=CAUSE)
            case PaymentFlow.CREDITS:
                # Cut short between its record and its debit: whichever mark came first decides.
                payment = await self._credits.finish(payment, as_of=as_of)
        if payment.is_final and not payment.status.is_paid:
            return payment
        payment.require_cancelable()
        raise PaymentNotCancelable(
            "Stripe is processing this payment, so it cannot be canceled now.",
            payment_id=payment.payment_id,
            payment_status=payment.status.value,
        )
