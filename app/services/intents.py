"""Payments with Stripe Elements: a PaymentIntent for the frontend, or a confirmation from here."""

from dataclasses import dataclass, field

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import Payment, PaymentFlow, PaymentStatus
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    PaymentDeclined,
    PaymentNotConfirmable,
    ValidationFailed,
)
from app.gateways.payments import (
    CardDeclined,
    IntentSnapshot,
    IntentStatus,
    PaymentGateway,
    StripeRefused,
)
from app.services.card_outcomes import CardOutcomes
from app.services.ledger import PaymentLedger
from app.services.lookup import PaymentLookup
from app.services.purchases import Pricing, Purchase, refusal_of


@dataclass(frozen=True, slots=True)
class CreatedIntent:
    """``client_secret`` is for the one shopper; it is never stored or logged."""

    payment: Payment
    intent: IntentSnapshot


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``client_secret`` is there only when the shopper must still act (3-D Secure)."""

    payment: Payment
    stripe_status: str
    client_secret: str | None = field(default=None, repr=False)

    @property
    def requires_action(self) -> bool:
        return self.stripe_status == IntentStatus.REQUIRES_ACTION


class IntentService:
    def __init__(
        self,
        ledger: PaymentLedger,
        lookup: PaymentLookup,
        outcomes: CardOutcomes,
        gateway: PaymentGateway,
        pricing: Pricing,
        *,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._outcomes = outcomes
        self._gateway = gateway
        self._pricing = pricing
        self._clock = clock

    async def create(self, caller: Caller, purchase: Purchase, *, payment_id: str) -> CreatedIntent:
        """Repeating it with the same ``payment_id`` continues the same payment."""
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        payment = await self._ledger.open(
            payment_id, PaymentFlow.PAYMENT_INTENT, purchase, amount=amount
        )
        return await self.create_at_stripe(payment)

    async def create_at_stripe(self, payment: Payment) -> CreatedIntent:
        """Raises PaymentNotConfirmable when the payment was given up meanwhile, ValidationFailed
        when Stripe refuses what the caller sent; then nothing was made.
        """
        self._ledger.require_open(payment)
        try:
            intent = await self._gateway.create_payment_intent(payment)
        except (AmountTooSmall, AmountTooLarge, StripeRefused) as refused:
            await self._ledger.apply(
                payment, lambda known: known.cancel(now=self._clock(), cause="refused by Stripe")
            )
            raise refusal_of(refused) from refused
        payment = await self._ledger.apply(
            payment,
            lambda known: known.with_payment_intent(
                intent.stripe_payment_intent_id, now=self._clock()
            ),
        )
        if payment.status is PaymentStatus.CANCELED:
            # Given up while Stripe was asked: nobody may be sent to pay it.
            await self._gateway.cancel_payment_intent(intent.stripe_payment_intent_id)
        self._ledger.require_open(payment)
        return CreatedIntent(payment, intent)

    async def client_secret(self, stripe_payment_intent_id: str) -> str | None:
        """Asked for again when an answer is replayed, because it is never stored."""
        intent = await self._gateway.retrieve_payment_intent(stripe_payment_intent_id)
        return intent.client_secret

    async def confirm(
        self,
        caller: Caller,
        stripe_payment_intent_id: str,
        payment_method: str | None,
        *,
        confirmation_id: str,
    ) -> Confirmation:
        """Makes one attempt with ``payment_method``, or without one reports what Stripe says now.

        Raises PaymentDeclined (the payment can be tried again with another payment method), or
        StripeTimeout and StripeFailed when the outcome is not known: it will be settled later.
        """
        payment = await self._lookup.get_by_payment_intent(caller, stripe_payment_intent_id)
        if payment.flow is not PaymentFlow.PAYMENT_INTENT:
            raise PaymentNotConfirmable("This payment is made on Stripe's hosted page.")
        if payment.status.is_paid:
            payment = await self._outcomes.complete(payment)
            return Confirmation(payment, IntentStatus.SUCCEEDED)
        if payment_method is None:
            intent = await self._gateway.retrieve_payment_intent(stripe_payment_intent_id)
            if intent.status == IntentStatus.REQUIRES_CONFIRMATION:
                intent = await self._attempt(
                    payment, stripe_payment_intent_id, None, confirmation_id
                )
        elif payment.is_final:
            raise PaymentNotConfirmable(f"This payment is {payment.status.value}.")
        else:
            intent = await self._attempt(
                payment, stripe_payment_intent_id, payment_method, confirmation_id
            )
        payment = await self._outcomes.observe_intent(
            payment, intent, cause="confirm-payment", is_current=True
        )
        acts = intent.status == IntentStatus.REQUIRES_ACTION
        return Confirmation(payment, intent.status, intent.client_secret if acts else None)

    async def _attempt(
        self,
        payment: Payment,
        stripe_payment_intent_id: str,
        payment_method: str | None,
        confirmation_id: str,
    ) -> IntentSnapshot:
        payment = await self._ledger.apply(
            payment, lambda known: known.start_confirmation(confirmation_id, now=self._clock())
        )
        try:
            return await self._gateway.confirm_payment_intent(
                stripe_payment_intent_id,
                payment_method=payment_method,
                confirmation_id=confirmation_id,
            )
        except CardDeclined as declined:
            if declined.intent is not None:
                # Not called current: Stripe replays a decline to the same key for a day.
                await self._outcomes.observe_intent(
                    payment, declined.intent, cause="confirm-payment", is_current=False
                )
            raise PaymentDeclined(
                declined.failure.message,
                decline_code=declined.failure.public_decline_code,
                payment_id=payment.payment_id,
            ) from declined
        except StripeRefused as refused:
            if refused.param == "payment_method":
                raise ValidationFailed.of_field(
                    "payment_method_id", "Stripe cannot charge this payment method"
                ) from refused
            # Paid, canceled or under way already, by another request or in the shopper's browser.
            if refused.stripe_code == "payment_intent_unexpected_state":
                return await self._gateway.retrieve_payment_intent(stripe_payment_intent_id)
            raise
