"""Payments with Stripe Elements: a PaymentIntent for the frontend, or a confirmation from here."""

from dataclasses import dataclass, field

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import ElementsDetails, Payment, PaymentFlow, PaymentStatus
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    PaymentDeclined,
    PaymentNotConfirmable,
    ValidationFailed,
)
from app.gateways.payments import (
    CancellationReason,
    CardDeclined,
    IntentSnapshot,
    IntentStatus,
    PaymentGateway,
    StripeObjectMissing,
    StripeRefused,
)
from app.services.card_outcomes import CardOutcomes
from app.services.ledger import ABANDONED, PaymentLedger
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

    async def create(
        self,
        caller: Caller,
        purchase: Purchase,
        *,
        payment_id: str,
        details: ElementsDetails | None = None,
        is_repeat: bool = False,
    ) -> CreatedIntent:
        """Repeating it with the same ``payment_id`` continues the same payment; ``is_repeat`` tells
        that an earlier try may have come further.

        Raises PaymentNotConfirmable when the payment cannot be paid any more, ValidationFailed when
        Stripe refuses what the caller sent; then nothing was made.
        """
        caller.require_user(purchase.user_id)
        amount = self._pricing.card_amount(purchase)
        payment = await self._ledger.open(
            payment_id, PaymentFlow.PAYMENT_INTENT, purchase, amount=amount, elements=details
        )
        if payment.stripe_payment_intent_id is None:
            created = await self._create_at_stripe(payment)
            if not is_repeat:
                return created
            # Stripe repeats its first answer for a day, whatever became of the PaymentIntent since.
            payment = created.payment
        return await self._at_present(payment)

    async def present(self, caller: Caller, payment_id: str) -> CreatedIntent:
        """A payment that was created before, for a shopper who is to pay it now.

        Raises PaymentNotConfirmable when it cannot be paid any more.
        """
        return await self._at_present(await self._lookup.get(caller, payment_id))

    async def finish(self, payment: Payment) -> Payment:
        """For the reconciler: makes what was not made, applies what Stripe says, and cancels a
        PaymentIntent that was abandoned.
        """
        intent_id = payment.stripe_payment_intent_id
        if intent_id is None:
            if not self._ledger.may_be_made_at_stripe(payment):
                return await self._ledger.give_up(payment, cause=ABANDONED)
            # The same key as the first time: Stripe returns what it made then, or makes it now.
            return (await self._create_at_stripe(payment)).payment
        abandoned = self._ledger.is_abandoned(payment)
        try:
            intent = await self._gateway.retrieve_payment_intent(intent_id)
        except StripeObjectMissing:
            if abandoned:
                return await self._ledger.give_up(payment, cause=ABANDONED)
            raise
        payment = await self._outcomes.observe_intent(
            payment, intent, cause="reconciler", is_current=True
        )
        if payment.is_final or not abandoned or not intent.may_be_abandoned(self._clock()):
            return payment
        return await self._close(payment, intent_id, cause=ABANDONED, reason="abandoned")

    async def cancel(self, payment: Payment, *, cause: str) -> Payment:
        """Closes the PaymentIntent, then the payment; one that is paid meanwhile is fulfilled."""
        if payment.stripe_payment_intent_id is None:
            payment = await self._ledger.give_up(payment, cause=cause)
        intent_id = payment.stripe_payment_intent_id
        if payment.is_final or intent_id is None:
            return payment
        return await self._close(payment, intent_id, cause=cause, reason="requested_by_customer")

    async def _close(
        self, payment: Payment, intent_id: str, *, cause: str, reason: CancellationReason
    ) -> Payment:
        try:
            intent = await self._gateway.cancel_payment_intent(intent_id, reason=reason)
        except StripeRefused:
            # Paid, canceled or submitted to the bank meanwhile: what Stripe says now is the answer.
            intent = await self._gateway.retrieve_payment_intent(intent_id)
        return await self._outcomes.observe_intent(payment, intent, cause=cause, is_current=True)

    async def _at_present(self, payment: Payment) -> CreatedIntent:
        payment.require_payable()
        if payment.stripe_payment_intent_id is None:
            raise LookupError(f"{payment.payment_id} has no PaymentIntent")
        intent = await self._gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)
        payment = await self._outcomes.observe_intent(
            payment, intent, cause="create-payment-intent", is_current=True
        )
        payment.require_payable()
        return CreatedIntent(payment, intent)

    async def _create_at_stripe(self, payment: Payment) -> CreatedIntent:
        payment.require_payable()
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
            # Canceled while Stripe was asked: no shopper may be sent to pay it.
            await self._gateway.cancel_payment_intent(
                intent.stripe_payment_intent_id, reason="abandoned"
            )
        payment.require_payable()
        return CreatedIntent(payment, intent)

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
        else:
            if payment.is_final:
                payment.require_payable()
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
