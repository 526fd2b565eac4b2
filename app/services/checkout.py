"""Payments on Stripe's hosted page: https://docs.stripe.com/payments/checkout"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import CheckoutDetails, Payment, PaymentFlow
from app.errors import RedirectNotAllowed
from app.gateways.payments import (
    CancellationReason,
    PaymentGateway,
    SessionPaymentStatus,
    SessionSnapshot,
    SessionStatus,
)
from app.services.card_flow import CardFlow, Opened
from app.services.card_outcomes import CardOutcomes
from app.services.lookup import PaymentLookup
from app.services.payment_writer import PaymentWriter
from app.services.purchases import Pricing, Purchase
from app.settings import origin_of

SESSION_ID_PLACEHOLDER: Final = "{CHECKOUT_SESSION_ID}"
"""Stripe fills it in: https://docs.stripe.com/payments/checkout/custom-success-page"""


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


class CheckoutService(CardFlow[SessionSnapshot]):
    route = "create-checkout-session"
    failure_is_final = True

    def __init__(
        self,
        writer: PaymentWriter,
        lookup: PaymentLookup,
        outcomes: CardOutcomes,
        gateway: PaymentGateway,
        pricing: Pricing,
        redirects: Redirects,
        *,
        clock: Clock,
    ) -> None:
        super().__init__(writer, lookup, outcomes, gateway, clock=clock)
        self._pricing = pricing
        self._redirects = redirects

    async def create(
        self,
        caller: Caller,
        purchase: Purchase,
        *,
        payment_id: str,
        customer_email: str | None,
        success_url: str | None,
        cancel_url: str | None,
        locale: str | None,
        is_repeat: bool,
    ) -> Opened[SessionSnapshot]:
        """Repeating it with the same ``payment_id`` continues the same payment; ``is_repeat`` tells
        that an earlier try may have come further.

        Raises PaymentNotConfirmable when the payment cannot be paid any more, ValidationFailed when
        Stripe refuses what the caller sent; then nothing was made.
        """
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        success_url, cancel_url = self._redirects.choose(success_url, cancel_url)
        payment = await self._writer.open(
            payment_id,
            PaymentFlow.CHECKOUT_SESSION,
            purchase,
            amount=amount,
            checkout=CheckoutDetails(success_url, cancel_url, customer_email, locale),
        )
        return await self._open(payment, is_repeat=is_repeat)

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
            payment, session, cause="checkout-session look-up", is_current=True
        )
        return payment, session

    # As a CardFlow

    def _stripe_id(self, payment: Payment) -> str | None:
        return payment.stripe_checkout_session_id

    def _with_id(self, payment: Payment, snapshot: SessionSnapshot, now: datetime) -> Payment:
        return payment.with_checkout_session(snapshot.stripe_checkout_session_id, now=now)

    async def _make(self, payment: Payment) -> SessionSnapshot:
        return await self._gateway.create_checkout_session(payment)

    async def _retrieve(self, stripe_id: str) -> SessionSnapshot:
        return await self._gateway.retrieve_checkout_session(stripe_id)

    async def _close_at_stripe(
        self, stripe_id: str, *, reason: CancellationReason
    ) -> SessionSnapshot:
        return await self._gateway.expire_checkout_session(stripe_id)

    async def _observe(self, payment: Payment, snapshot: SessionSnapshot, *, cause: str) -> Payment:
        return await self._outcomes.observe_session(payment, snapshot, cause=cause, is_current=True)

    async def _follow_up(self, payment: Payment, snapshot: SessionSnapshot) -> Payment:
        """Once the page is complete, its PaymentIntent knows more: a delayed payment's outcome."""
        payment = await self._observe(payment, snapshot, cause="reconciler")
        intent_id = payment.stripe_payment_intent_id
        if payment.is_final or snapshot.status != SessionStatus.COMPLETE or intent_id is None:
            return payment
        intent = await self._gateway.retrieve_payment_intent(intent_id)
        return await self._outcomes.observe_intent(
            payment, intent, cause="reconciler", is_current=True
        )

    def _is_open(self, snapshot: SessionSnapshot) -> bool:
        return snapshot.status == SessionStatus.OPEN

    def _can_be_paid(self, snapshot: SessionSnapshot) -> bool:
        return self._is_open(snapshot)

    def _may_be_abandoned(self, snapshot: SessionSnapshot) -> bool:
        return self._is_open(snapshot)


def _paid_session_of(payment: Payment) -> SessionSnapshot:
    return SessionSnapshot(
        stripe_checkout_session_id=payment.stripe_checkout_session_id or "",
        status=SessionStatus.COMPLETE,
        payment_status=SessionPaymentStatus.PAID,
        amount_total=payment.amount,
        currency=payment.currency,
        payment_id=payment.payment_id,
        stripe_payment_intent_id=payment.stripe_payment_intent_id,
    )
