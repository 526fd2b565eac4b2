"""What each type of event means for the payment that it is about.

Handlers are safe to run twice and out of order: an event is a hint, and CardOutcomes,
RefundOutcomes and IssuerReportRecorder ask Stripe wherever an old one could mislead.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from app.domain.payments import Payment
from app.errors import EventUnreadable
from app.gateways.payments import (
    ChargeSnapshot,
    DisputeSnapshot,
    EventSnapshot,
    FraudWarningSnapshot,
    IntentSnapshot,
    OtherObject,
    PaymentGateway,
    RefundSnapshot,
    SessionSnapshot,
    UnreadableObject,
)
from app.services.card_outcomes import CardOutcomes
from app.services.event_payments import EventPayments, Reference
from app.services.issuer_reports import IssuerReportRecorder
from app.services.refund_outcomes import RefundOutcomes

SELLS_NOTHING: Final = OtherObject("checkout.session")
"""A session that sets something up or subscribes to it: no payment of ours."""

T = TypeVar("T")

Handler = Callable[[EventSnapshot], Awaitable[bool]]
"""Applies the event; False when it is about an object that is not ours."""


class EventHandlers:
    def __init__(
        self,
        payments: EventPayments,
        outcomes: CardOutcomes,
        refunds: RefundOutcomes,
        issuer_reports: IssuerReportRecorder,
        gateway: PaymentGateway,
    ) -> None:
        self._payments = payments
        self._outcomes = outcomes
        self._refunds = refunds
        self._issuer_reports = issuer_reports
        self._gateway = gateway
        self._handlers: Mapping[str, Handler] = {
            "payment_intent.succeeded": self.on_payment_intent,
            "payment_intent.payment_failed": self.on_payment_intent,
            "payment_intent.processing": self.on_payment_intent,
            "payment_intent.requires_action": self.on_payment_intent,
            "payment_intent.canceled": self.on_payment_intent,
            "checkout.session.completed": self.on_checkout_session,
            "checkout.session.async_payment_succeeded": self.on_checkout_session,
            "checkout.session.async_payment_failed": self.on_checkout_session_payment_failed,
            "checkout.session.expired": self.on_checkout_session,
            "charge.refunded": self.on_charge_refunded,
            "refund.created": self.on_refund,
            "refund.updated": self.on_refund,
            "refund.failed": self.on_refund,
            "charge.dispute.created": self.on_dispute,
            "charge.dispute.updated": self.on_dispute,
            "charge.dispute.closed": self.on_dispute,
            "charge.dispute.funds_withdrawn": self.on_dispute,
            "charge.dispute.funds_reinstated": self.on_dispute,
            "radar.early_fraud_warning.created": self.on_early_fraud_warning,
            "radar.early_fraud_warning.updated": self.on_early_fraud_warning,
        }

    @property
    def event_types(self) -> tuple[str, ...]:
        return tuple(self._handlers)

    async def apply(self, event: EventSnapshot) -> bool:
        """Whether it was about a payment of ours. Raises EventUnreadable, EventNotYetApplicable,
        or what asking Stripe and the databases raises.
        """
        handler = self._handlers.get(event.type)
        return handler is not None and await handler(event)

    async def on_payment_intent(self, event: EventSnapshot) -> bool:
        intent = _expect(event, IntentSnapshot)
        payment = await self._payments.find(
            event,
            Reference(intent.payment_id, intent.deployment, intent.stripe_payment_intent_id),
        )
        if payment is None:
            return False
        await self._outcomes.observe_intent(payment, intent, cause=event.cause, is_current=False)
        return True

    async def on_checkout_session(self, event: EventSnapshot) -> bool:
        found = await self._find_by_session(event)
        if found is None:
            return False
        payment, session = found
        await self._outcomes.observe_session(payment, session, cause=event.cause, is_current=False)
        return True

    async def on_checkout_session_payment_failed(self, event: EventSnapshot) -> bool:
        found = await self._find_by_session(event)
        if found is None:
            return False
        payment, session = found
        await self._outcomes.observe_failed_session(payment, session, cause=event.cause)
        return True

    async def on_charge_refunded(self, event: EventSnapshot) -> bool:
        """Also sent for a partial refund, and it does not say which refunds there are."""
        charge = _expect(event, ChargeSnapshot)
        payment = await self._payments.find_or_ask_stripe(
            event,
            Reference(charge.payment_id, charge.deployment, charge.stripe_payment_intent_id),
        )
        if payment is None:
            return False
        payment = await self._paid(payment, event)
        if payment.status.is_paid and payment.amount_refunded_at_stripe < charge.amount_refunded:
            await self._refunds.observe_all(payment, cause=event.cause)
        return True

    async def on_refund(self, event: EventSnapshot) -> bool:
        refund = _expect(event, RefundSnapshot)
        payment = await self._payments.find_or_ask_stripe(
            event,
            Reference(refund.payment_id, refund.deployment, refund.stripe_payment_intent_id),
        )
        if payment is None:
            return False
        payment = await self._paid(payment, event)
        if payment.status.is_paid:
            await self._refunds.observe(payment, refund, cause=event.cause, is_current=False)
        return True

    async def on_dispute(self, event: EventSnapshot) -> bool:
        snapshot = _expect(event, DisputeSnapshot)
        payment = await self._find_reported(event, snapshot.stripe_payment_intent_id)
        if payment is None:
            return False
        ask = self._gateway.retrieve_dispute
        await self._issuer_reports.observe(payment, snapshot.dispute, ask=ask)
        return True

    async def on_early_fraud_warning(self, event: EventSnapshot) -> bool:
        snapshot = _expect(event, FraudWarningSnapshot)
        payment = await self._find_reported(event, snapshot.stripe_payment_intent_id)
        if payment is None:
            return False
        ask = self._gateway.retrieve_early_fraud_warning
        await self._issuer_reports.observe(payment, snapshot.warning, ask=ask)
        return True

    async def _find_by_session(
        self, event: EventSnapshot
    ) -> tuple[Payment, SessionSnapshot] | None:
        if event.object == SELLS_NOTHING:
            return None
        session = _expect(event, SessionSnapshot)
        reference = Reference(
            session.payment_id,
            session.deployment,
            stripe_checkout_session_id=session.stripe_checkout_session_id,
        )
        payment = await self._payments.find(event, reference)
        return None if payment is None else (payment, session)

    async def _find_reported(
        self, event: EventSnapshot, stripe_payment_intent_id: str | None
    ) -> Payment | None:
        reference = Reference(stripe_payment_intent_id=stripe_payment_intent_id)
        return await self._payments.find_or_ask_stripe(event, reference)

    async def _paid(self, payment: Payment, event: EventSnapshot) -> Payment:
        """The refund event may have come before the payment's own: Stripe is asked for that first.

        A payment that is held for a person may be refunded in the Dashboard; it stays held.
        """
        if payment.status.is_paid or payment.review is not None:
            return payment
        return await self._outcomes.look_up(payment, cause=event.cause)


def _expect(event: EventSnapshot, kind: type[T]) -> T:
    """The event's object. Raises EventUnreadable."""
    match event.object:
        case kind() as expected:
            return expected
        case UnreadableObject(reason):
            raise EventUnreadable(reason)
        case OtherObject(found):
            raise EventUnreadable(f"data.object is a {found}")
        case other:
            raise EventUnreadable(f"data.object is read as a {other.__class__.__name__}")
