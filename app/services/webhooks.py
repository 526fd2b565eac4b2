"""Stripe's events: stored, claimed, applied, finished. https://docs.stripe.com/webhooks

Seen and processed are two facts. An event is answered 2xx only when it is stored and either done or
in the hands of someone who will do it; whatever fails is kept with its error and tried again, by
Stripe's next delivery and by the reconciler, whichever comes first.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from app.domain.clock import Clock
from app.domain.ids import PAYMENT_PREFIX
from app.domain.payments import Claim, Failure, Payment, says_the_same
from app.domain.webhook_events import EventResult, EventStatus, WebhookEvent
from app.errors import BadRequest, EventNotYetApplicable, EventUnreadable, LivemodeMismatch
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
    StripeObjectMissing,
    UnreadableObject,
)
from app.metrics import Metrics
from app.observability import get_logger
from app.repositories.payments import PaymentRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services.card_outcomes import CardOutcomes
from app.services.ledger import PaymentLedger
from app.services.refunds import RefundService

LEASE: Final = timedelta(minutes=2)
"""Longer than a handler usually runs; a second one at once would do no harm, each may run twice."""

FIRST_RETRY_WAIT: Final = timedelta(seconds=30)
LONGEST_RETRY_WAIT: Final = timedelta(hours=1)

ORPHAN_GRACE: Final = timedelta(hours=1)
"""How long an event may wait for the record of ours that it names, before it counts as foreign."""

SELLS_NOTHING: Final = OtherObject("checkout.session")
"""A session that sets something up or subscribes to it: no payment of ours."""

log = get_logger(__name__)
T = TypeVar("T")

Handler = Callable[[EventSnapshot], Awaitable[bool]]
"""Applies the event; False when it is about an object that is not ours."""


@dataclass(frozen=True, slots=True)
class Receipt:
    stripe_event_id: str
    result: EventResult


class WebhookService:
    def __init__(
        self,
        events: WebhookEventRepository,
        payments: PaymentRepository,
        ledger: PaymentLedger,
        outcomes: CardOutcomes,
        refunds: RefundService,
        gateway: PaymentGateway,
        *,
        deployment: str,
        livemode: bool,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``deployment``: the name in the metadata of what this service makes at Stripe."""
        self._events = events
        self._payments = payments
        self._ledger = ledger
        self._outcomes = outcomes
        self._refunds = refunds
        self._gateway = gateway
        self._deployment = deployment
        self._livemode = livemode
        self._clock = clock
        self._metrics = metrics
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
        """What the endpoint should be subscribed to; Stripe's list takes 20 at most."""
        return tuple(self._handlers)

    async def receive(self, payload: bytes, signature: str | None) -> Receipt:
        """Raises InvalidSignature, LivemodeMismatch, NotAStripeEvent, UnsupportedEventPayload, or
        whatever the handler failed with. An event whose object cannot be read is stored for the
        reconciler: delivering it again would change nothing.
        """
        event = self._gateway.verify_event(payload, signature)
        if event.livemode != self._livemode:
            raise LivemodeMismatch(
                "This service runs with live keys, the event is a test."
                if self._livemode
                else "This service runs with test keys, the event is live."
            )
        try:
            result = await self.ingest(event)
        except EventUnreadable:
            result = EventResult.DEFERRED
        return Receipt(event.stripe_event_id, result)

    async def ingest(self, event: EventSnapshot) -> EventResult:
        """Stores the event and processes it, unless that was or is being done."""
        now = self._clock()
        stored = await self._events.add(
            WebhookEvent(
                stripe_event_id=event.stripe_event_id,
                type=event.type,
                payload=event.payload,
                status=EventStatus.PROCESSING,
                created_at=event.created_at,
                received_at=now,
                attempts=1,
                next_attempt_at=now + LEASE,
            )
        )
        if stored:
            return await self._process(event, attempts=1)
        claimed = await self._claim(event.stripe_event_id, only_due=False)
        if claimed is not None:
            return await self._process(event, attempts=claimed.attempts)
        known = await self._events.find(event.stripe_event_id)
        finished = known is not None and known.status.is_final
        result = EventResult.DUPLICATE if finished else EventResult.DEFERRED
        self._metrics.count_webhook_event(event.type, result.value)
        return result

    async def retry(self, stripe_event_id: str) -> EventResult:
        """For the reconciler: processes a stored event whose next try is due."""
        claimed = await self._claim(stripe_event_id, only_due=True)
        if claimed is None:
            return EventResult.DEFERRED
        try:
            event = self._gateway.parse_event(claimed.payload)
        except BadRequest as error:
            # A version that is less strict stored it.
            await self._keep_failed(stripe_event_id, claimed.type, error, claimed.attempts)
            raise
        return await self._process(event, attempts=claimed.attempts)

    async def _claim(self, stripe_event_id: str, *, only_due: bool) -> WebhookEvent | None:
        now = self._clock()
        return await self._events.claim(
            stripe_event_id, now=now, lease_until=now + LEASE, only_due=only_due
        )

    async def _process(self, event: EventSnapshot, *, attempts: int) -> EventResult:
        handler = self._handlers.get(event.type)
        try:
            applied = handler is not None and await handler(event)
            status = EventStatus.PROCESSED if applied else EventStatus.IGNORED
            await self._events.mark_finished(event.stripe_event_id, status, now=self._clock())
        except Exception as error:
            # Kept with its error and raised again: the sender must not hear that all is well.
            await self._keep_failed(event.stripe_event_id, event.type, error, attempts)
            raise
        result = EventResult(status.value)
        self._metrics.count_webhook_event(event.type, result.value)
        log.info(
            "webhook.event_finished",
            stripe_event_id=event.stripe_event_id,
            type=event.type,
            result=result.value,
        )
        return result

    async def _keep_failed(
        self, stripe_event_id: str, type: str, error: Exception, attempts: int
    ) -> None:
        reason, result = error.__class__.__name__, "failed"
        if isinstance(error, EventUnreadable):
            reason, result = error.detail, "unreadable"
            log.error(
                "webhook.event_unreadable",
                stripe_event_id=stripe_event_id,
                type=type,
                reason=reason,
            )
        self._metrics.count_webhook_event(type, result)
        wait = min(FIRST_RETRY_WAIT * 2 ** min(attempts - 1, 10), LONGEST_RETRY_WAIT)
        await self._events.mark_failed(
            stripe_event_id, error=reason, next_attempt_at=self._clock() + wait
        )

    # Handlers: safe to run twice and out of order

    async def on_payment_intent(self, event: EventSnapshot) -> bool:
        intent = _expect(event, IntentSnapshot)
        payment = await self._find(
            event,
            intent.payment_id,
            intent.deployment,
            intent_id=intent.stripe_payment_intent_id,
        )
        if payment is None:
            return False
        await self._outcomes.observe_intent(payment, intent, cause=_cause(event), is_current=False)
        return True

    async def on_checkout_session(self, event: EventSnapshot) -> bool:
        if event.object == SELLS_NOTHING:
            return False
        session = _expect(event, SessionSnapshot)
        payment = await self._find_by_session(event, session)
        if payment is None:
            return False
        await self._outcomes.observe_session(
            payment, session, cause=_cause(event), is_current=False
        )
        return True

    async def on_checkout_session_payment_failed(self, event: EventSnapshot) -> bool:
        """The bank refused a delayed payment; the PaymentIntent knows the reason."""
        if event.object == SELLS_NOTHING:
            return False
        session = _expect(event, SessionSnapshot)
        payment = await self._find_by_session(event, session)
        if payment is None:
            return False
        payment = await self._outcomes.observe_session(
            payment, session, cause=_cause(event), is_current=False
        )
        intent_id = session.stripe_payment_intent_id
        if intent_id is not None:
            intent = await self._gateway.retrieve_payment_intent(intent_id)
            payment = await self._outcomes.observe_intent(
                payment, intent, cause=_cause(event), is_current=True
            )
        else:
            failure = Failure("payment_failed", "The payment failed.")
            await self._ledger.apply(
                payment,
                lambda known: known.fail(
                    failure, attempt=None, now=self._clock(), cause=_cause(event)
                ),
            )
        return True

    async def on_charge_refunded(self, event: EventSnapshot) -> bool:
        """Also sent for a partial refund, and it does not say which refunds there are."""
        charge = _expect(event, ChargeSnapshot)
        payment = await self._find_charged(
            event, charge.payment_id, charge.deployment, charge.stripe_payment_intent_id
        )
        if payment is None:
            return False
        payment = await self._paid(payment, event)
        known = sum(
            refund.amount
            for refund in payment.refunds
            if refund.status.holds_money and refund.stripe_refund_id is not None
        )
        if payment.status.is_paid and known < charge.amount_refunded:
            await self._refunds.observe_all(payment, cause=_cause(event))
        return True

    async def on_refund(self, event: EventSnapshot) -> bool:
        refund = _expect(event, RefundSnapshot)
        payment = await self._find_charged(
            event, refund.payment_id, refund.deployment, refund.stripe_payment_intent_id
        )
        if payment is None:
            return False
        payment = await self._paid(payment, event)
        if payment.status.is_paid:
            await self._refunds.observe(payment, refund, cause=_cause(event), is_current=False)
        return True

    async def on_dispute(self, event: EventSnapshot) -> bool:
        snapshot = _expect(event, DisputeSnapshot)
        return await self._record_present(
            event,
            snapshot.dispute,
            snapshot.stripe_payment_intent_id,
            ask=self._gateway.retrieve_dispute,
        )

    async def on_early_fraud_warning(self, event: EventSnapshot) -> bool:
        snapshot = _expect(event, FraudWarningSnapshot)
        return await self._record_present(
            event,
            snapshot.warning,
            snapshot.stripe_payment_intent_id,
            ask=self._gateway.retrieve_early_fraud_warning,
        )

    async def _record_present(
        self,
        event: EventSnapshot,
        told: Claim,
        intent_id: str | None,
        *,
        ask: Callable[[str], Awaitable[Claim]],
    ) -> bool:
        """Records what Stripe says of it now, unless the event tells what is recorded already.

        Workers and instances do this at once, and no clock orders what they hear. So an answer is
        recorded only in place of what was recorded before Stripe was asked, else Stripe is asked
        again: each state that is recorded was fetched after the one before it was recorded.
        """
        payment = await self._find_charged(event, None, None, intent_id)
        if payment is None:
            return False
        known = payment.recorded(told)
        if says_the_same(told, known):
            return True
        while True:
            try:
                present = await ask(told.stripe_id)
            except StripeObjectMissing:
                if known is not None:
                    return True
                present = told
            payment = await self._ledger.apply(
                payment,
                partial(_record, claim=present, instead_of=known, now=self._clock()),
            )
            known = payment.recorded(told)
            if says_the_same(present, known):
                return True

    async def _paid(self, payment: Payment, event: EventSnapshot) -> Payment:
        """A refund that overtook the news of the payment: Stripe is asked for that first.

        A payment that is held for a person may be refunded in the dashboard; it stays held.
        """
        if payment.status.is_paid or payment.review is not None:
            return payment
        return await self._outcomes.look_up(payment, cause=_cause(event))

    async def _find_charged(
        self,
        event: EventSnapshot,
        payment_id: str | None,
        deployment: str | None,
        intent_id: str | None,
    ) -> Payment | None:
        """The payment whose money the event is about.

        Another PaymentIntent may carry our payment's id; what happens to its money is not ours.
        """
        payment = await self._find(event, payment_id, deployment, intent_id=intent_id, ask=True)
        if payment is None or payment.stripe_payment_intent_id in (None, intent_id):
            return payment
        log.warning(
            "webhook.stranger",
            stripe_event_id=event.stripe_event_id,
            type=event.type,
            payment_id=payment.payment_id,
        )
        return None

    async def _find_by_session(
        self, event: EventSnapshot, session: SessionSnapshot
    ) -> Payment | None:
        return await self._find(
            event,
            session.payment_id,
            session.deployment,
            session_id=session.stripe_checkout_session_id,
        )

    async def _find(
        self,
        event: EventSnapshot,
        payment_id: str | None,
        deployment: str | None,
        *,
        intent_id: str | None = None,
        session_id: str | None = None,
        ask: bool = False,
    ) -> Payment | None:
        """The payment that the event is about; None when it is not ours.

        What we have is ours, whatever ``deployment`` its metadata names: a restored database and a
        renamed deployment still know their payments. By the id in the metadata first, for the event
        may be faster than our own record of Stripe's id. ``ask``: refunds and disputes made
        elsewhere carry no metadata, so the PaymentIntent is asked. Raises EventNotYetApplicable
        when the metadata says that a payment is ours, and it is not there (yet).
        """
        names_a_payment = payment_id is not None and payment_id.startswith(PAYMENT_PREFIX)
        payment = None
        if payment_id is not None and names_a_payment:
            payment = await self._payments.find(payment_id)
        if payment is None and session_id is not None:
            payment = await self._payments.find_by_checkout_session(session_id)
        if payment is None and intent_id is not None:
            payment = await self._payments.find_by_payment_intent(intent_id)
        if payment is not None:
            return payment
        if deployment == self._deployment and names_a_payment:
            if self._clock() - event.created_at < ORPHAN_GRACE:
                raise EventNotYetApplicable("The payment is not known yet.", retry_after=30)
            log.warning("webhook.orphan", stripe_event_id=event.stripe_event_id, type=event.type)
            return None
        if not ask or deployment is not None or intent_id is None:
            log.info(
                "webhook.not_ours",
                stripe_event_id=event.stripe_event_id,
                type=event.type,
                deployment=deployment,
            )
            return None
        try:
            intent = await self._gateway.retrieve_payment_intent(intent_id)
        except StripeObjectMissing:
            return None
        payment = await self._find(event, intent.payment_id, intent.deployment)
        if payment is None:
            return None
        return await self._outcomes.observe_intent(
            payment, intent, cause=_cause(event), is_current=True
        )


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


def _record(payment: Payment, claim: Claim, instead_of: Claim | None, now: datetime) -> Payment:
    return payment.record_claim(claim, instead_of=instead_of, now=now)


def _cause(event: EventSnapshot) -> str:
    return f"{event.type} {event.stripe_event_id}"
