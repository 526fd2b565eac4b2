"""Payments with Stripe Elements: a PaymentIntent for the frontend, or a confirmation from here."""

from dataclasses import dataclass, field
from datetime import datetime

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import ElementsDetails, Payment, PaymentFlow
from app.errors import CardDeclined, PaymentNotConfirmable, ValidationFailed
from app.gateways.payments import (
    AttemptDeclined,
    CancellationReason,
    IntentSnapshot,
    IntentStatus,
    PaymentGateway,
    StripeRefused,
)
from app.services.card_flow import CardFlow, Opened
from app.services.card_outcomes import CardOutcomes
from app.services.fulfilment import FulfilmentService
from app.services.lookup import PaymentLookup
from app.services.payment_writer import PaymentWriter
from app.services.purchases import Pricing, Purchase


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``client_secret`` is there only when the shopper must still act (3-D Secure)."""

    payment: Payment
    stripe_status: str
    client_secret: str | None = field(default=None, repr=False)

    @property
    def requires_action(self) -> bool:
        return self.stripe_status == IntentStatus.REQUIRES_ACTION


class IntentService(CardFlow[IntentSnapshot]):
    route = "create-payment-intent"
    failure_is_final = False

    def __init__(
        self,
        writer: PaymentWriter,
        lookup: PaymentLookup,
        outcomes: CardOutcomes,
        fulfilment: FulfilmentService,
        gateway: PaymentGateway,
        pricing: Pricing,
        *,
        clock: Clock,
    ) -> None:
        super().__init__(writer, lookup, outcomes, gateway, clock=clock)
        self._fulfilment = fulfilment
        self._pricing = pricing

    async def create(
        self,
        caller: Caller,
        purchase: Purchase,
        *,
        payment_id: str,
        details: ElementsDetails | None,
        is_repeat: bool,
    ) -> Opened[IntentSnapshot]:
        """Repeating it with the same ``payment_id`` continues the same payment; ``is_repeat`` tells
        that an earlier try may have come further.

        Raises PaymentNotConfirmable when the payment cannot be paid any more, ValidationFailed when
        Stripe refuses what the caller sent; then nothing was made.
        """
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        payment = await self._writer.open(
            payment_id, PaymentFlow.PAYMENT_INTENT, purchase, amount=amount, elements=details
        )
        return await self._open(payment, is_repeat=is_repeat)

    async def present_action(self, caller: Caller, payment_id: str) -> Opened[IntentSnapshot]:
        """A payment that was confirmed before, for a shopper who is to act on it now: 3-D Secure,
        or a voucher that is to be shown again.

        Raises PaymentNotConfirmable when there is nothing left to do.
        """
        payment = await self._lookup.get(caller, payment_id)
        if payment.is_over:
            payment.require_payable()
        intent = await self._retrieve(payment.stripe_payment_intent_id or "")
        payment = await self._observe(payment, intent, cause="confirm-payment")
        if payment.is_over or intent.status != IntentStatus.REQUIRES_ACTION:
            payment.require_payable()
            raise payment.not_confirmable("This attempt to pay has failed. Please try again.")
        return Opened(payment, intent)

    async def confirm(
        self,
        caller: Caller,
        stripe_payment_intent_id: str,
        payment_method: str | None,
        *,
        confirmation_id: str,
        is_repeat: bool,
    ) -> Confirmation:
        """Makes one attempt with ``payment_method``, or without one reports what Stripe says now.
        ``is_repeat`` tells that an earlier try may have made the attempt.

        Raises CardDeclined (the payment can be tried again with another payment method), or
        StripeTimeout and StripeFailed when the outcome is not known: it will be settled later.
        """
        payment = await self._lookup.get_by_payment_intent(caller, stripe_payment_intent_id)
        if payment.flow is not PaymentFlow.PAYMENT_INTENT:
            raise PaymentNotConfirmable("This payment is made on Stripe's hosted page.")
        if payment.status.is_paid:
            payment = await self._fulfilment.write_order(payment)
            return Confirmation(payment, IntentStatus.SUCCEEDED)
        if payment_method is not None and payment.is_over:
            payment.require_payable()
        intent = await self._retrieve(stripe_payment_intent_id) if payment_method is None else None
        waits = intent is not None and intent.status == IntentStatus.REQUIRES_CONFIRMATION
        if intent is None or (waits and not payment.is_over):
            intent = await self._attempt(
                payment, stripe_payment_intent_id, payment_method, confirmation_id
            )
            if is_repeat:
                # Stripe repeats its first answer for a day, whatever became of the attempt since.
                intent = await self._retrieve(stripe_payment_intent_id)
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
        payment = await self._writer.apply(
            payment, lambda known: known.start_confirmation(confirmation_id, now=self._clock())
        )
        try:
            return await self._gateway.confirm_payment_intent(
                stripe_payment_intent_id,
                payment_method=payment_method,
                confirmation_id=confirmation_id,
            )
        except AttemptDeclined as declined:
            if declined.intent is not None:
                # Not called current: Stripe replays a decline to the same key for a day.
                await self._outcomes.observe_intent(
                    payment, declined.intent, cause="confirm-payment", is_current=False
                )
            raise CardDeclined(
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

    # As a CardFlow

    def _stripe_id(self, payment: Payment) -> str | None:
        return payment.stripe_payment_intent_id

    def _with_id(self, payment: Payment, snapshot: IntentSnapshot, now: datetime) -> Payment:
        return payment.with_payment_intent(snapshot.stripe_payment_intent_id, now=now)

    async def _make(self, payment: Payment) -> IntentSnapshot:
        return await self._gateway.create_payment_intent(payment)

    async def _retrieve(self, stripe_id: str) -> IntentSnapshot:
        return await self._gateway.retrieve_payment_intent(stripe_id)

    async def _close_at_stripe(
        self, stripe_id: str, *, reason: CancellationReason
    ) -> IntentSnapshot:
        return await self._gateway.cancel_payment_intent(stripe_id, reason=reason)

    async def _observe(self, payment: Payment, snapshot: IntentSnapshot, *, cause: str) -> Payment:
        return await self._outcomes.observe_intent(payment, snapshot, cause=cause, is_current=True)

    async def _follow_up(self, payment: Payment, snapshot: IntentSnapshot) -> Payment:
        return await self._observe(payment, snapshot, cause="reconciler")

    def _is_open(self, snapshot: IntentSnapshot) -> bool:
        """Stripe might cancel one that is processing ("in rare cases"), but the shopper has paid as
        far as they can tell: https://docs.stripe.com/api/payment_intents/cancel
        """
        return snapshot.status not in (
            IntentStatus.PROCESSING,
            IntentStatus.SUCCEEDED,
            IntentStatus.CANCELED,
        )

    def _can_be_paid(self, snapshot: IntentSnapshot) -> bool:
        return self._is_open(snapshot) and not snapshot.is_under_way

    def _may_be_abandoned(self, snapshot: IntentSnapshot) -> bool:
        return snapshot.may_be_abandoned(self._clock())
