"""Payments on Stripe's hosted page: https://docs.stripe.com/payments/checkout"""

from dataclasses import dataclass
from typing import Final, Literal

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import CheckoutDetails, Payment, PaymentFlow, PaymentStatus
from app.errors import AmountTooLarge, AmountTooSmall, RedirectNotAllowed
from app.gateways.payments import PaymentGateway, SessionSnapshot, StripeRefused
from app.services.card_outcomes import CardOutcomes
from app.services.ledger import PaymentLedger
from app.services.lookup import PaymentLookup
from app.services.purchases import Pricing, Purchase, refusal_of
from app.settings import origin_of

SESSION_ID_PLACEHOLDER: Final = "{CHECKOUT_SESSION_ID}"
"""Stripe fills it in: https://docs.stripe.com/payments/checkout/custom-success-page"""

SessionStatus = Literal["open", "complete", "expired"]


@dataclass(frozen=True, slots=True)
class Redirects:
    """Where the shopper comes back to, and the origins that a caller may name."""

    success_url: str
    cancel_url: str
    allowed_origins: frozenset[str]

    def choose(self, success_url: str | None, cancel_url: str | None) -> tuple[str, str]:
        """Raises RedirectNotAllowed. The success URL gets the session's id unless it has it."""
        for url in (success_url, cancel_url):
            if url is not None and origin_of(url) not in self.allowed_origins:
                raise RedirectNotAllowed(
                    "success_url and cancel_url must lead to an allowed origin."
                )
        success = success_url or self.success_url
        if SESSION_ID_PLACEHOLDER not in success:
            address, hash_sign, fragment = success.partition("#")
            separator = "&" if "?" in address else "?"
            success = (
                f"{address}{separator}session_id={SESSION_ID_PLACEHOLDER}{hash_sign}{fragment}"
            )
        return success, cancel_url or self.cancel_url


@dataclass(frozen=True, slots=True)
class CreatedSession:
    payment: Payment
    session: SessionSnapshot


class CheckoutService:
    def __init__(
        self,
        ledger: PaymentLedger,
        lookup: PaymentLookup,
        outcomes: CardOutcomes,
        gateway: PaymentGateway,
        pricing: Pricing,
        redirects: Redirects,
        *,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._outcomes = outcomes
        self._gateway = gateway
        self._pricing = pricing
        self._redirects = redirects
        self._clock = clock

    async def create(
        self,
        caller: Caller,
        purchase: Purchase,
        *,
        payment_id: str,
        customer_email: str | None,
        success_url: str | None,
        cancel_url: str | None,
    ) -> CreatedSession:
        """Repeating it with the same ``payment_id`` continues the same payment."""
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        success_url, cancel_url = self._redirects.choose(success_url, cancel_url)
        payment = await self._ledger.open(
            payment_id,
            PaymentFlow.CHECKOUT_SESSION,
            purchase,
            amount=amount,
            checkout=CheckoutDetails(success_url, cancel_url, customer_email),
        )
        return await self.create_at_stripe(payment)

    async def create_at_stripe(self, payment: Payment) -> CreatedSession:
        """Raises PaymentNotConfirmable when the payment was given up meanwhile, ValidationFailed
        when Stripe refuses what the caller sent; then nothing was made.
        """
        self._ledger.require_open(payment)
        try:
            session = await self._gateway.create_checkout_session(payment)
        except (AmountTooSmall, AmountTooLarge, StripeRefused) as refused:
            await self._ledger.apply(
                payment, lambda known: known.cancel(now=self._clock(), cause="refused by Stripe")
            )
            raise refusal_of(refused) from refused
        payment = await self._ledger.apply(
            payment,
            lambda known: known.with_checkout_session(
                session.stripe_checkout_session_id, now=self._clock()
            ),
        )
        if payment.status is PaymentStatus.CANCELED:
            # Given up while Stripe was asked: nobody may be sent to pay it.
            await self._gateway.expire_checkout_session(session.stripe_checkout_session_id)
        self._ledger.require_open(payment)
        return CreatedSession(payment, session)

    async def status(
        self, caller: Caller, stripe_checkout_session_id: str
    ) -> tuple[Payment, SessionSnapshot]:
        """What Stripe says now, applied to the payment first: the success page may ask before the
        webhook came. A paid payment is answered from our own record.
        """
        payment = await self._lookup.get_by_checkout_session(caller, stripe_checkout_session_id)
        if payment.status.is_paid and payment.due_order_status is payment.order_status:
            return payment, _paid_session_of(payment)
        session = await self._gateway.retrieve_checkout_session(stripe_checkout_session_id)
        payment = await self._outcomes.observe_session(
            payment, session, cause="checkout-session look-up"
        )
        return payment, session


def _paid_session_of(payment: Payment) -> SessionSnapshot:
    return SessionSnapshot(
        stripe_checkout_session_id=payment.stripe_checkout_session_id or "",
        status="complete",
        payment_status="paid",
        amount_total=payment.amount,
        currency=payment.currency,
        payment_id=payment.payment_id,
        stripe_payment_intent_id=payment.stripe_payment_intent_id,
    )
