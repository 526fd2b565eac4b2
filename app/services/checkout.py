"""Payments on Stripe's hosted page: https://docs.stripe.com/payments/checkout"""

from dataclasses import dataclass
from typing import Final, Literal

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import CheckoutDetails, Payment, PaymentFlow, PaymentStatus
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    PaymentNotConfirmable,
    RedirectNotAllowed,
)
from app.gateways.payments import (
    PaymentGateway,
    SessionSnapshot,
    StripeObjectMissing,
    StripeRefused,
)
from app.services.card_outcomes import CardOutcomes
from app.services.ledger import ABANDONED, PaymentLedger
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
        locale: str | None = None,
        is_repeat: bool = False,
    ) -> CreatedSession:
        """Repeating it with the same ``payment_id`` continues the same payment; ``is_repeat`` tells
        that an earlier try may have come further.

        Raises PaymentNotConfirmable when the payment cannot be paid any more, ValidationFailed when
        Stripe refuses what the caller sent; then nothing was made.
        """
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        success_url, cancel_url = self._redirects.choose(success_url, cancel_url)
        payment = await self._ledger.open(
            payment_id,
            PaymentFlow.CHECKOUT_SESSION,
            purchase,
            amount=amount,
            checkout=CheckoutDetails(success_url, cancel_url, customer_email, locale),
        )
        if payment.stripe_checkout_session_id is None:
            created = await self._create_at_stripe(payment)
            if not is_repeat:
                return created
            # Stripe repeats its first answer for a day, whatever became of the session since.
            payment = created.payment
        return await self._at_present(payment)

    async def present(self, caller: Caller, payment_id: str) -> CreatedSession:
        """A payment that was created before, for a shopper who is to be sent to its page now.

        Raises PaymentNotConfirmable when it cannot be paid there any more.
        """
        return await self._at_present(await self._lookup.get(caller, payment_id))

    async def finish(self, payment: Payment) -> Payment:
        """For the reconciler: makes what was not made, applies what Stripe says, and expires a
        session that was abandoned.
        """
        session_id = payment.stripe_checkout_session_id
        if session_id is None:
            if not self._ledger.may_be_made_at_stripe(payment):
                return await self._ledger.give_up(payment, cause=ABANDONED)
            return (await self._create_at_stripe(payment)).payment
        abandoned = self._ledger.is_abandoned(payment)
        try:
            session = await self._gateway.retrieve_checkout_session(session_id)
        except StripeObjectMissing:
            if abandoned:
                return await self._ledger.give_up(payment, cause=ABANDONED)
            raise
        if session.status == "open" and abandoned:
            return await self._close(payment, session_id, cause=ABANDONED)
        payment = await self._outcomes.observe_session(
            payment, session, cause="reconciler", is_current=True
        )
        if payment.is_final or session.status != "complete":
            return payment
        intent_id = payment.stripe_payment_intent_id
        if intent_id is not None:
            intent = await self._gateway.retrieve_payment_intent(intent_id)
            payment = await self._outcomes.observe_intent(
                payment, intent, cause="reconciler", is_current=True
            )
        if payment.status is PaymentStatus.FAILED and abandoned:
            # The page is closed for ever and its delayed payment failed: it cannot be paid any
            # more.
            return await self._ledger.give_up(payment, cause=ABANDONED)
        return payment

    async def cancel(self, payment: Payment, *, cause: str) -> Payment:
        """Closes the page, then the payment; one that is paid meanwhile is fulfilled. A page that
        was completed stays so: its payment may have failed for good, or the bank decides.
        """
        if payment.stripe_checkout_session_id is None:
            payment = await self._ledger.give_up(payment, cause=cause)
        session_id = payment.stripe_checkout_session_id
        if payment.is_final or session_id is None:
            return payment
        payment = await self._close(payment, session_id, cause=cause)
        if payment.status is PaymentStatus.FAILED:
            return await self._ledger.give_up(payment, cause=cause)
        return payment

    async def _close(self, payment: Payment, session_id: str, *, cause: str) -> Payment:
        try:
            session = await self._gateway.expire_checkout_session(session_id)
        except StripeRefused:
            # Completed or expired meanwhile: what Stripe says now is the answer.
            session = await self._gateway.retrieve_checkout_session(session_id)
        return await self._outcomes.observe_session(payment, session, cause=cause, is_current=True)

    async def _at_present(self, payment: Payment) -> CreatedSession:
        payment.require_payable()
        if payment.stripe_checkout_session_id is None:
            raise LookupError(f"{payment.payment_id} has no Checkout Session")
        session = await self._gateway.retrieve_checkout_session(payment.stripe_checkout_session_id)
        payment = await self._outcomes.observe_session(
            payment, session, cause="create-checkout-session", is_current=True
        )
        payment.require_payable()
        if session.status != "open":
            raise PaymentNotConfirmable(
                "This payment's page is closed and its payment failed; "
                "pay again with a new Idempotency-Key.",
                payment_id=payment.payment_id,
                payment_status=payment.status.value,
            )
        return CreatedSession(payment, session)

    async def _create_at_stripe(self, payment: Payment) -> CreatedSession:
        payment.require_payable()
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
            # Canceled while Stripe was asked: no shopper may be sent to pay it.
            await self._gateway.expire_checkout_session(session.stripe_checkout_session_id)
        payment.require_payable()
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
            payment, session, cause="checkout-session look-up", is_current=True
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
