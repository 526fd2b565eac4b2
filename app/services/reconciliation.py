"""Finds half-done payments, refunds, marks and events, and moves them on.

It needs no webhook: what Stripe knows is asked for, and Stripe's own list of events is read for
what never reached the inbox. One instance works at a time; two at once would only waste calls.
"""

import asyncio
from datetime import timedelta
from typing import Final, Literal

from app.domain.clock import Clock
from app.domain.ids import new_id
from app.metrics import Metrics
from app.observability import get_logger
from app.repositories.locks import LockRepository
from app.repositories.payments import PaymentRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services.advancement import PaymentAdvancer
from app.services.batches import Batches, LeaseLost, Report, attempt
from app.services.inbox import Inbox
from app.services.missed_events import MissedEvents

LOCK: Final = "reconciler"
LEASE: Final = timedelta(minutes=10)

log = get_logger(__name__)


class ReconciliationService:
    def __init__(
        self,
        payments: PaymentRepository,
        events: WebhookEventRepository,
        locks: LockRepository,
        advancer: PaymentAdvancer,
        inbox: Inbox,
        missed_events: MissedEvents,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._payments = payments
        self._events = events
        self._locks = locks
        self._advancer = advancer
        self._inbox = inbox
        self._missed_events = missed_events
        self._clock = clock
        self._metrics = metrics
        self._owner = new_id("reconciler_")

    async def run_for_ever(self, interval_seconds: float) -> None:
        """The timer. A run that fails is logged, and the next one comes all the same."""
        while True:
            await asyncio.sleep(interval_seconds)
            await attempt(self.run_once(), "reconciler.run_failed")

    async def run_once(self) -> Report:
        """One run over all that is due; ``ran`` is False while another instance has the lease."""
        if not await self._hold_lock():
            return Report(ran=False)
        report = Report()
        batches = Batches(report, self._metrics, self._prolong)
        outcome: Literal["succeeded", "failed"] = "failed"
        try:
            results = [
                await batches.step("event_list", self._missed_events.read(batches)),
                await batches.step("events", self._retry_events(batches)),
                await batches.step("payments", self._advance_payments(batches)),
            ]
            outcome = "succeeded" if all(results) else "failed"
        except LeaseLost:
            log.warning("reconciler.lease_lost")
        finally:
            self._metrics.count_reconciler_run(outcome)
            await self._locks.release(LOCK, owner=self._owner)
        log.info("reconciler.finished", **report.as_fields())
        return report

    async def _retry_events(self, batches: Batches) -> None:
        async def retry(stripe_event_id: str) -> bool:
            await self._inbox.retry(stripe_event_id)
            return True

        await batches.all_due("event", self._events.list_due, retry, now=self._clock())

    async def _advance_payments(self, batches: Batches) -> None:
        now = self._clock()

        async def advance(payment_id: str) -> bool:
            # A look that changes nothing is counted on the payment, any change resets the count.
            return (await self._advancer.advance(payment_id)).reconcile_attempts == 0

        async def postpone(payment_id: str) -> None:
            await self._advancer.postpone(payment_id, due_at=now)

        await batches.all_due(
            "payment", self._payments.list_due, advance, now=now, on_failure=postpone
        )

    async def _prolong(self) -> None:
        if not await self._hold_lock():
            raise LeaseLost

    async def _hold_lock(self) -> bool:
        now = self._clock()
        return await self._locks.acquire(LOCK, owner=self._owner, now=now, until=now + LEASE)
