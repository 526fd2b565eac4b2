"""Stripe's own list of events, read for what never reached the inbox.

https://docs.stripe.com/api/events
"""

from datetime import datetime, timedelta
from typing import Final

from app.domain.clock import Clock
from app.errors import StripeNotConfigured
from app.gateways.payments import EventSnapshot, PaymentGateway
from app.repositories.locks import LockRepository
from app.repositories.payments import PaymentRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services.batches import Batches
from app.services.inbox import Inbox

CURSOR: Final = "stripe_events"

STRIPE_RETENTION: Final = timedelta(days=30)
"""How long Stripe lists an event."""

OVERLAP: Final = timedelta(minutes=10)
"""Read again each time: an event may appear in the list a little after its own time."""


class MissedEvents:
    def __init__(
        self,
        inbox: Inbox,
        events: WebhookEventRepository,
        payments: PaymentRepository,
        locks: LockRepository,
        gateway: PaymentGateway,
        *,
        clock: Clock,
    ) -> None:
        self._inbox = inbox
        self._events = events
        self._payments = payments
        self._locks = locks
        self._gateway = gateway
        self._clock = clock

    async def read(self, batches: Batches) -> None:
        """Ingests what was missed; the cursor moves once all of it was stored."""
        started = self._clock()
        cursor = await self._locks.find_cursor(CURSOR) or await self._first_cursor()
        try:
            self._gateway.require_configured()
        except StripeNotConfigured:
            return
        pages = self._gateway.list_events(self._inbox.event_types, since=cursor - OVERLAP)
        async for page in pages:
            unknown = set(
                await self._events.list_unknown([event.stripe_event_id for event in page])
            )
            # Oldest first, as they would have come.
            missed = [event for event in reversed(page) if event.stripe_event_id in unknown]
            await batches.each("missed_event", missed, self._ingest, id_of=_id_of)
            if await self._events.list_unknown(sorted(unknown)):
                return
        await self._locks.move_cursor(CURSOR, started)

    async def _ingest(self, event: EventSnapshot) -> bool:
        await self._inbox.ingest(event)
        return True

    async def _first_cursor(self) -> datetime:
        """Nothing of ours can have happened before the first payment, or is kept for longer."""
        now = self._clock()
        first = await self._payments.find_first_creation()
        return max(first, now - STRIPE_RETENTION) if first else now


def _id_of(event: EventSnapshot) -> str:
    return event.stripe_event_id
