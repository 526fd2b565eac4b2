"""Finds half-done payments, refunds, marks and events, and moves them on.

It needs no webhook: what Stripe knows is asked for, and Stripe's own list of events is read for
what never reached the inbox. One instance works at a time; two at once would only waste calls.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from app.domain.clock import Clock
from app.domain.ids import new_id
from app.domain.payments import Payment, PaymentFlow, Work
from app.errors import PaymentServiceError, StripeNotConfigured
from app.gateways.payments import EventSnapshot, PaymentGateway
from app.metrics import Metrics
from app.observability import cause_of, get_logger
from app.repositories.documents import UnreadableDocument
from app.repositories.locks import LockRepository
from app.repositories.payments import PaymentRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services.checkout import CheckoutService
from app.services.credits import CreditsService
from app.services.fulfilment import FulfilmentService
from app.services.intents import IntentService
from app.services.ledger import PaymentLedger
from app.services.refunds import RefundService
from app.services.webhooks import WebhookService

LOCK: Final = "reconciler"
CURSOR: Final = "stripe_events"
LEASE: Final = timedelta(minutes=10)
BATCH: Final = 100
AT_ONCE: Final = 10

STRIPE_RETENTION: Final = timedelta(days=30)
"""How long Stripe lists an event: https://docs.stripe.com/api/events"""

UNREADABLE_WAIT: Final = timedelta(hours=1)
"""For a person, or for the version of the service that can read it."""

OVERLAP: Final = timedelta(minutes=10)
"""Read again each time: an event may appear in the list a little after its own time."""

log = get_logger(__name__)
Item = TypeVar("Item")


class _LeaseLost(Exception):
    """This run took so long that another instance took over."""


@dataclass(slots=True)
class Report:
    """What one run did, by kind of work: how many were looked at, moved on, and failed."""

    ran: bool = True
    looked_at: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def as_fields(self) -> dict[str, dict[str, int]]:
        return {
            "looked_at": dict(self.looked_at),
            "moved": dict(self.moved),
            "failed": dict(self.failed),
        }


class ReconciliationService:
    def __init__(
        self,
        payments: PaymentRepository,
        events: WebhookEventRepository,
        locks: LockRepository,
        ledger: PaymentLedger,
        intents: IntentService,
        checkout: CheckoutService,
        credits: CreditsService,
        refunds: RefundService,
        fulfilment: FulfilmentService,
        webhooks: WebhookService,
        gateway: PaymentGateway,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._payments = payments
        self._events = events
        self._locks = locks
        self._ledger = ledger
        self._intents = intents
        self._checkout = checkout
        self._credits = credits
        self._refunds = refunds
        self._fulfilment = fulfilment
        self._webhooks = webhooks
        self._gateway = gateway
        self._clock = clock
        self._metrics = metrics
        self._owner = new_id("reconciler_")

    async def run_for_ever(self, interval_seconds: float) -> None:
        """The timer. A run that fails is logged, and the next one comes all the same."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.run_once()
            except PaymentServiceError as error:
                log.warning("reconciler.run_failed", error=error.code, detail=error.detail)
            except Exception:
                # The timer must outlive a mistake in one run, or nothing would be repaired any
                # more.
                log.exception("reconciler.run_failed")

    async def run_once(self) -> Report:
        """One run over all that is due; ``ran`` is False when another instance is at it."""
        if not await self._hold_lock():
            return Report(ran=False)
        report = Report()
        outcome: Literal["succeeded", "failed"] = "failed"
        try:
            results = [
                await self._run_step("event_list", self._read_stripe_events, report),
                await self._run_step("events", self._retry_events, report),
                await self._run_step("payments", self._advance_payments, report),
            ]
            outcome = "succeeded" if all(results) else "failed"
        except _LeaseLost:
            log.warning("reconciler.lease_lost")
        finally:
            self._metrics.count_reconciler_run(outcome)
            await self._locks.release(LOCK, owner=self._owner)
        log.info("reconciler.finished", **report.as_fields())
        return report

    async def _run_step(
        self, name: str, step: Callable[[Report], Awaitable[None]], report: Report
    ) -> bool:
        """A step that fails is logged and counted, and the others are run all the same."""
        try:
            await step(report)
        except _LeaseLost:
            raise
        except PaymentServiceError as error:
            log.warning(
                "reconciler.step_failed",
                step=name,
                error=error.code,
                detail=error.detail,
                cause=cause_of(error),
            )
        except Exception:
            # A mistake of ours in one step must not leave the work of the others undone.
            log.exception("reconciler.step_failed", step=name)
        else:
            return True
        report.failed[name] += 1
        self._metrics.count_reconciler_item(name, "failed")
        return False

    async def advance(self, payment_id: str) -> Payment:
        """Moves one payment on as far as it goes now. Raises PaymentNotFound."""
        as_of = self._clock()
        payment = await self._ledger.get(payment_id)
        before = payment.revision
        if Work.OUTCOME in payment.unfinished:
            payment = await self._decide(payment, as_of)
        payment = await self._fulfilment.write_order(payment)
        if Work.REFUND in payment.unfinished:
            payment = await self._refunds.resume(payment, as_of=as_of)
        due = payment.reconcile_at is not None and payment.reconcile_at <= self._clock()
        if payment.unfinished == {Work.MARKS} and due:
            payment = await self._credits.remove_marks(payment)
        if payment.revision == before and payment.unfinished:
            payment = await self._ledger.apply(payment, Payment.looked_at)
        return payment

    async def _decide(self, payment: Payment, as_of: datetime) -> Payment:
        match payment.flow:
            case PaymentFlow.CREDITS:
                return await self._credits.finish(payment, as_of=as_of)
            case PaymentFlow.PAYMENT_INTENT:
                return await self._intents.finish(payment)
            case PaymentFlow.CHECKOUT_SESSION:
                return await self._checkout.finish(payment)

    async def _advance_payments(self, report: Report) -> None:
        started = self._clock()

        async def advance(payment_id: str) -> bool:
            # A look that changes nothing is counted on the payment, any change resets the count.
            return (await self.advance(payment_id)).reconcile_attempts == 0

        async def postpone(payment_id: str) -> None:
            try:
                await self._ledger.apply(await self._ledger.get(payment_id), Payment.looked_at)
            except UnreadableDocument:
                # It would stay the first of those that are due, and enough of them would be all.
                await self._payments.postpone_unreadable(
                    payment_id, now=started, until=self._clock() + UNREADABLE_WAIT
                )

        seen: set[str] = set()
        while True:
            due = await self._payments.list_due(started, limit=BATCH)
            fresh = [payment_id for payment_id in due if payment_id not in seen]
            if not fresh:
                return
            seen.update(fresh)
            await self._each("payment", fresh, advance, report, on_failure=postpone)

    async def _retry_events(self, report: Report) -> None:
        async def retry(stripe_event_id: str) -> bool:
            await self._webhooks.retry(stripe_event_id)
            return True

        started = self._clock()
        seen: set[str] = set()
        while True:
            due = await self._events.list_due(started, limit=BATCH)
            fresh = [stripe_event_id for stripe_event_id in due if stripe_event_id not in seen]
            if not fresh:
                return
            seen.update(fresh)
            await self._each("event", fresh, retry, report)

    async def _read_stripe_events(self, report: Report) -> None:
        """Ingests what never reached the inbox; the cursor moves once all of it was stored."""
        started = self._clock()
        cursor = await self._locks.find_cursor(CURSOR) or await self._first_cursor()

        async def ingest(event: EventSnapshot) -> bool:
            await self._webhooks.ingest(event)
            return True

        try:
            self._gateway.require_configured()
        except StripeNotConfigured:
            return
        async for page in self._gateway.list_events(
            self._webhooks.event_types, since=cursor - OVERLAP
        ):
            unknown = set(
                await self._events.list_unknown([event.stripe_event_id for event in page])
            )
            # Oldest first, as they would have come.
            missed = [event for event in reversed(page) if event.stripe_event_id in unknown]
            await self._each("missed_event", missed, ingest, report)
            if await self._events.list_unknown(sorted(unknown)):
                return
        await self._locks.move_cursor(CURSOR, started)

    async def _first_cursor(self) -> datetime:
        """Nothing of ours can have happened before the first payment, or is kept for longer."""
        now = self._clock()
        first = await self._payments.find_first_creation()
        return max(first, now - STRIPE_RETENTION) if first else now

    async def _each(
        self,
        kind: str,
        items: Sequence[Item],
        work: Callable[[Item], Awaitable[bool]],
        report: Report,
        *,
        on_failure: Callable[[Item], Awaitable[None]] | None = None,
    ) -> None:
        """A few at a time. One item's failure is logged and counted and stops no other."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def attempt(act: Callable[[Item], Awaitable[Any]], item: Item) -> Any:
            try:
                return await act(item)
            except PaymentServiceError as error:
                log.warning(
                    "reconciler.item_failed",
                    kind=kind,
                    error=error.code,
                    detail=error.detail,
                    cause=cause_of(error),
                )
            except Exception:
                # A mistake of ours about one item must not hold up all that come after it.
                log.exception("reconciler.item_failed", kind=kind)
            return None

        async def run(item: Item) -> None:
            async with slots:
                moved = await attempt(work, item)
                if moved is None and on_failure is not None:
                    await attempt(on_failure, item)
            outcome = "failed" if moved is None else "moved" if moved else "unchanged"
            report.looked_at[kind] += 1
            if outcome != "unchanged":
                (report.moved if moved else report.failed)[kind] += 1
            self._metrics.count_reconciler_item(kind, outcome)

        await asyncio.gather(*(run(item) for item in items))
        if not await self._hold_lock():
            raise _LeaseLost

    async def _hold_lock(self) -> bool:
        now = self._clock()
        return await self._locks.acquire(LOCK, owner=self._owner, now=now, until=now + LEASE)
