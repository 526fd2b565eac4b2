"""Stripe's events: stored, claimed, applied, finished. https://docs.stripe.com/webhooks

Seen and processed are two facts. An event is answered 2xx only when it is stored and either done or
claimed by a worker that will do it; one that fails is kept with its error and tried again, by
Stripe's next delivery and by the reconciler, whichever comes first.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.domain.clock import Clock
from app.domain.webhook_events import EventResult, EventStatus, WebhookEvent
from app.errors import BadRequest, EventUnreadable, LivemodeMismatch
from app.gateways.payments import EventSnapshot, PaymentGateway
from app.metrics import Metrics
from app.observability import get_logger
from app.repositories.webhook_events import WebhookEventRepository
from app.services.event_handlers import EventHandlers

LEASE: Final = timedelta(minutes=2)
"""Longer than a handler usually runs; a second one at once would do no harm, each may run twice."""

FIRST_RETRY_WAIT: Final = timedelta(seconds=30)
LONGEST_RETRY_WAIT: Final = timedelta(hours=1)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    stripe_event_id: str
    result: EventResult


class Inbox:
    def __init__(
        self,
        events: WebhookEventRepository,
        handlers: EventHandlers,
        gateway: PaymentGateway,
        *,
        livemode: bool,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._events = events
        self._handlers = handlers
        self._gateway = gateway
        self._livemode = livemode
        self._clock = clock
        self._metrics = metrics

    @property
    def event_types(self) -> tuple[str, ...]:
        """What the endpoint should be subscribed to; Stripe's list takes 20 at most."""
        return self._handlers.event_types

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
        try:
            applied = await self._handlers.apply(event)
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
