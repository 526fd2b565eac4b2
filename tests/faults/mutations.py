"""The code broken on purpose, to see that the laboratory would notice.

Each mutation swaps a method or a constant of the application for one with a mistake that somebody
could make, and names the promises of which at least one must be reported broken, and the cases that
must notice (the first that does is enough).
"""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from pymongo.errors import DuplicateKeyError

from app.domain import payments
from app.domain.credits import Debit, DebitOutcome
from app.domain.ids import new_id
from app.domain.orders import Order
from app.domain.payments import Payment, PaymentStatus
from app.domain.refunds import RefundStatus
from app.domain.webhook_events import EventResult, EventStatus
from app.errors import DependencyFailure, RefundExceedsRemaining
from app.gateways.payments import IntentSnapshot
from app.gateways.stripe import StripeGateway
from app.repositories import database, indexes
from app.repositories.documents import order_to_document
from app.repositories.idempotency_keys import IdempotencyKeyRepository
from app.repositories.orders import OrderRepository
from app.repositories.payments import PaymentRepository
from app.repositories.users import MARKS_FIELD, UserRepository
from app.repositories.webhook_events import WebhookEventRepository
from app.services import idempotency as idempotency_rules
from app.services import refund_outcomes
from app.services.card_flow import Opened
from app.services.card_outcomes import CardOutcomes
from app.services.checkout import CheckoutService
from app.services.credits import ABANDONED, CreditsService
from app.services.event_handlers import EventHandlers
from app.services.fulfilment import FulfilmentService
from app.services.inbox import Inbox
from app.services.intents import IntentService
from app.services.issuer_reports import IssuerReportRecorder
from app.services.missed_events import CURSOR, MissedEvents
from app.services.payment_writer import PaymentWriter
from app.services.refund_making import RefundMaker
from tests.faults import crashes, histories, orders, races
from tests.faults.crashes import Case, Outcome
from tests.faults.schedules import Stop

Swap = Callable[[pytest.MonkeyPatch], None]
Cases = Callable[[], AsyncIterator[Outcome]]


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    promises: frozenset[str]
    swap: Swap
    cases: Cases

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self.swap(patch)
            yield


MUTATIONS: Final[dict[str, Mutation]] = {}


def mutation(promises: str, cases: Cases) -> Callable[[Swap], Swap]:
    def register(swap: Swap) -> Swap:
        name = swap.__name__
        MUTATIONS[name] = Mutation(name, frozenset(promises.split()), swap, cases)
        return swap

    return register


def dying_in(flow: str, *, at: str = "", last_first: bool = False) -> Cases:
    """``at``: only at steps whose text has it."""
    return _broken_in(flow, crashes.deaths, at, last_first)


def failing_in(flow: str, *, at: str = "", last_first: bool = False) -> Cases:
    return _broken_in(flow, crashes.faults, at, last_first)


def _broken_in(
    flow: str, every: Callable[[str], Awaitable[Iterator[Case]]], at: str, last_first: bool
) -> Cases:
    async def outcomes() -> AsyncIterator[Outcome]:
        steps = (await crashes.run(Case(flow))).act
        cases = [
            case
            for case in await every(flow)
            if case.act is not None and at in str(steps[case.act.number])
        ]
        for case in reversed(cases) if last_first else cases:
            yield await crashes.run(case)

    return outcomes


def failing_in_recovery_of(flow: str, *, at: str) -> Cases:
    """The process dies there, a day goes by, and each step of the recovery fails in its turn."""

    async def outcomes() -> AsyncIterator[Outcome]:
        act = (await crashes.run(Case(flow))).act
        for case in await crashes.deaths(flow):
            if case.after.is_late and case.act is not None and at in str(act[case.act.number]):
                steps = (await crashes.run(case)).recovery
                for number, step in enumerate(steps):
                    fault = "deadline_after" if step.kind == "stripe" else "reset_before"
                    again = crashes.Place(number, fault)
                    yield await crashes.run(replace(case, recovery=again))

    return outcomes


def histories_told(count: int) -> Cases:
    async def outcomes() -> AsyncIterator[Outcome]:
        for seed in range(count):
            yield await histories.run(histories.Told(seed))

    return outcomes


def every_order_of(life: str) -> Cases:
    async def outcomes() -> AsyncIterator[Outcome]:
        for order in await orders.every(life):
            yield await orders.run(order)

    return outcomes


def every_schedule_of(race: str) -> Cases:
    return lambda: races.every(race)


def stopped_in(race: str, *stops: Stop, then: str) -> Cases:
    """The operations are stopped there, and ``then`` another one after each of its first steps."""

    async def outcomes() -> AsyncIterator[Outcome]:
        for step in range(30):
            yield await races.run(races.Run(race, stops=(*stops, (then, step))))

    return outcomes


def schedules_of(*names: str, count: int = 60) -> Cases:
    async def outcomes() -> AsyncIterator[Outcome]:
        for seed in range(count):
            for name in names:
                yield await races.run(races.Run.by_seed(name, seed))

    return outcomes


# Credits


@mutation("2", every_schedule_of("two_credits_payments"))
def debit_checks_then_writes(patch: pytest.MonkeyPatch) -> None:
    async def take_credits(
        self: Any, user_id: str, *, payment_id: str, credits: int, now: Any, **_: Any
    ) -> Debit:
        balance = await self.get_credits(user_id)
        if balance < credits:
            return Debit(DebitOutcome.INSUFFICIENT, balance)
        mark = {"key": payment_id, "kind": "debit", "credits": credits, "at": now}
        await self._collection.update_one(
            {"_id": user_id}, {"$inc": {"credits": -credits}, "$push": {MARKS_FIELD: mark}}
        )
        return Debit(DebitOutcome.TAKEN, balance - credits)

    patch.setattr(UserRepository, "take_credits", take_credits)


@mutation("2", dying_in("pay_with_credits"))
def debit_leaves_no_mark(patch: pytest.MonkeyPatch) -> None:
    async def take_credits(self: Any, user_id: str, *, credits: int, **_: Any) -> Debit:
        document = await self._collection.find_one_and_update(
            {"_id": user_id, "credits": {"$gte": credits}}, {"$inc": {"credits": -credits}}
        )
        if document is None:
            return Debit(DebitOutcome.INSUFFICIENT, await self.get_credits(user_id))
        return Debit(DebitOutcome.TAKEN, document["credits"] - credits)

    patch.setattr(UserRepository, "take_credits", take_credits)


@mutation("2 answer", stopped_in("slow_debit_and_reconciler", ("payer", 4), then="reconciler"))
def a_slow_debit_is_not_fenced(patch: pytest.MonkeyPatch) -> None:
    """The finder looks for the mark and leaves none of its own."""

    async def cancel_debit(self: Any, user_id: str, *, payment_id: str, **_: Any) -> Debit:
        user = await self._collection.find_one({"_id": user_id})
        taken = any(mark["key"] == payment_id for mark in user.get(MARKS_FIELD, ()))
        outcome = DebitOutcome.TAKEN_BEFORE if taken else DebitOutcome.CANCELED
        return Debit(outcome, user["credits"])

    patch.setattr(UserRepository, "cancel_debit", cancel_debit)


@mutation("2 answer", schedules_of("very_slow_debit", count=200))
def a_mark_is_removed_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    """A worker that slept through the time that marks are kept does its change again."""

    async def remove_marks(self: Any, user_id: str, keys: frozenset[str], **_: Any) -> None:
        await self._collection.update_one(
            {"_id": user_id}, {"$pull": {MARKS_FIELD: {"key": {"$in": sorted(keys)}}}}
        )

    patch.setattr(UserRepository, "remove_marks", remove_marks)


@mutation("rest", dying_in("pay_with_credits"))
def marks_are_never_removed(patch: pytest.MonkeyPatch) -> None:
    async def remove_marks(self: Any, user_id: str, keys: frozenset[str], **_: Any) -> None:
        return None

    patch.setattr(UserRepository, "remove_marks", remove_marks)


@mutation("2", dying_in("refund_credits"))
def credits_are_given_back_without_a_mark(patch: pytest.MonkeyPatch) -> None:
    async def give_back(self: Any, user_id: str, *, credits: int, **_: Any) -> bool:
        await self._collection.update_one({"_id": user_id}, {"$inc": {"credits": credits}})
        return True

    patch.setattr(UserRepository, "give_back_credits", give_back)


@mutation("2 1 rest answer", dying_in("pay_with_credits"))
def a_found_debit_is_given_up(patch: pytest.MonkeyPatch) -> None:
    async def finish(self: Any, payment: Payment, **_: Any) -> Payment:
        failed: Payment = await self._fail(payment, ABANDONED)
        return failed

    patch.setattr(CreditsService, "finish", finish)


@mutation("rest", dying_in("pay_with_credits"))
def a_found_debit_is_left_alone(patch: pytest.MonkeyPatch) -> None:
    async def finish(self: Any, payment: Payment, **_: Any) -> Payment:
        return payment

    patch.setattr(CreditsService, "finish", finish)


@mutation("2", dying_in("refund_credits"))
def a_refund_mark_is_removed_before_the_payment_is_saved(patch: pytest.MonkeyPatch) -> None:
    whole = UserRepository.give_back_credits

    async def give_back(self: Any, user_id: str, *, refund_id: str, **how: Any) -> None:
        await whole(self, user_id, refund_id=refund_id, **how)
        await self._collection.update_one(
            {"_id": user_id}, {"$pull": {MARKS_FIELD: {"key": refund_id}}}
        )

    patch.setattr(UserRepository, "give_back_credits", give_back)


@mutation("2", stopped_in("very_slow_repeat_of_a_refund", ("reconciler", 0), then="repeat"))
def a_worker_says_that_it_looked_when_it_writes(patch: pytest.MonkeyPatch) -> None:
    """So the fence holds nobody back who slept between the two."""
    whole = UserRepository._change

    async def change(self: Any, *what: Any, as_of: Any, now: Any) -> Any:
        return await whole(self, *what, as_of=now, now=now)

    patch.setattr(UserRepository, "_change", change)


@mutation("2 7 answer", schedules_of("refused_for_credits_that_come_back", count=400))
def too_few_credits_leave_no_mark(patch: pytest.MonkeyPatch) -> None:
    """A try that is refused does not hold back another try of the same request."""
    take, cancel = UserRepository.take_credits, UserRepository.cancel_debit
    refused: set[str] = set()

    async def take_credits(self: Any, user_id: str, *, payment_id: str, **how: Any) -> Debit:
        debit = await take(self, user_id, payment_id=payment_id, **how)
        if debit.outcome is DebitOutcome.INSUFFICIENT:
            refused.add(payment_id)
        return debit

    async def cancel_debit(self: Any, user_id: str, *, payment_id: str, **how: Any) -> Debit:
        if payment_id in refused:
            return Debit(DebitOutcome.CANCELED, 0)
        return await cancel(self, user_id, payment_id=payment_id, **how)

    patch.setattr(UserRepository, "take_credits", take_credits)
    patch.setattr(UserRepository, "cancel_debit", cancel_debit)


# Orders


@mutation("1", dying_in("refund_card"))
def a_refund_does_not_change_the_order(patch: pytest.MonkeyPatch) -> None:
    async def put(self: Any, order: Order) -> None:
        with contextlib.suppress(DuplicateKeyError):
            await self._collection.insert_one(order_to_document(order))

    patch.setattr(OrderRepository, "put", put)


@mutation("1", stopped_in("a_refund_comes_back_while_it_is_noted", ("refund", 5), then="failure"))
def an_order_follows_an_older_revision(patch: pytest.MonkeyPatch) -> None:
    async def put(self: Any, order: Order) -> None:
        document = order_to_document(order)
        await self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    patch.setattr(OrderRepository, "put", put)


@mutation("1", schedules_of("webhook_and_confirmation", "page_events_and_look_up"))
def orders_have_no_unique_id(patch: pytest.MonkeyPatch) -> None:
    async def put(self: Any, order: Any) -> None:
        await self._collection.insert_one({**order_to_document(order), "_id": new_id("ord_")})

    patch.setattr(OrderRepository, "put", put)
    patch.setitem(indexes.INDEXES, indexes.ORDERS, ())


@mutation("1 answer", dying_in("paid_by_webhook"))
def an_order_is_made_before_the_payment_is_paid(patch: pytest.MonkeyPatch) -> None:
    whole = FulfilmentService.fulfil

    async def fulfil(self: Any, payment: Payment, **paid: Any) -> Payment:
        early = replace(payment, status=PaymentStatus.SUCCEEDED, succeeded_at=self._clock())
        await self._orders.put(Order.of(early))
        return await whole(self, payment, **paid)

    patch.setattr(FulfilmentService, "fulfil", fulfil)


@mutation("1 rest", dying_in("paid_by_webhook"))
def finding_a_paid_payment_stops(patch: pytest.MonkeyPatch) -> None:
    """ "Paid already: nothing to do", though its order may be missing."""

    async def write_order(self: Any, payment: Payment) -> Payment:
        if any(line.to_status is PaymentStatus.SUCCEEDED for line in payment.history[:-1]):
            return payment
        fresh = payment.updated_at == self._clock() or (
            self._clock() - payment.updated_at < timedelta(seconds=1)
        )
        return await whole(self, payment) if fresh else payment

    whole = FulfilmentService.write_order
    patch.setattr(FulfilmentService, "write_order", write_order)


@mutation("8", failing_in("amount_changed_at_stripe"))
def the_amount_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    whole = FulfilmentService.fulfil

    async def fulfil(self: Any, payment: Payment, **paid: Any) -> Payment:
        return await whole(self, payment, **{**paid, "amount": payment.amount})

    patch.setattr(FulfilmentService, "fulfil", fulfil)


@mutation("8", failing_in("currency_changed_at_stripe"))
def the_currency_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    whole = FulfilmentService.fulfil

    async def fulfil(self: Any, payment: Payment, **paid: Any) -> Payment:
        return await whole(self, payment, **{**paid, "currency": payment.currency})

    patch.setattr(FulfilmentService, "fulfil", fulfil)


@mutation("1", schedules_of("a_refund_comes_back_while_it_is_noted", count=120))
def an_order_is_left_with_a_status_that_was_taken_back(patch: pytest.MonkeyPatch) -> None:
    whole = Payment._moved

    def moved(self: Any, status: Any, now: Any, cause: str, **changes: Any) -> Payment:
        changes.pop("order_status", None)
        done: Payment = whole(self, status, now, cause, **changes)
        return done

    patch.setattr(Payment, "_moved", moved)


# Payments


@mutation("1 3 6 answer rest", schedules_of("webhook_and_confirmation", "two_refunds_of_a_card"))
def payments_are_saved_whatever_others_wrote(patch: pytest.MonkeyPatch) -> None:
    whole = PaymentRepository.save

    async def save(self: Any, before: Payment, after: Payment) -> Payment | None:
        stored = await self.get(before.payment_id)
        return await whole(self, replace(before, revision=stored.revision), after)

    patch.setattr(PaymentRepository, "save", save)


@mutation("5", dying_in("create_intent"))
def stripe_is_asked_before_the_payment_is_recorded(patch: pytest.MonkeyPatch) -> None:
    whole = PaymentWriter.open

    async def open(self: Any, payment_id: str, flow: Any, purchase: Any, **what: Any) -> Payment:
        unsaved = _unsaved(self, payment_id, flow, purchase, what)
        gateway = _GATEWAYS[-1]
        await gateway.create_payment_intent(unsaved)
        return await whole(self, payment_id, flow, purchase, **what)

    _remember_gateways(patch)
    patch.setattr(PaymentWriter, "open", open)


_GATEWAYS: list[StripeGateway] = []


def _remember_gateways(patch: pytest.MonkeyPatch) -> None:
    first = StripeGateway.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        first(self, *args, **kwargs)
        _GATEWAYS.append(self)

    patch.setattr(StripeGateway, "__init__", __init__)


def _unsaved(ledger: Any, payment_id: str, flow: Any, purchase: Any, what: Any) -> Payment:
    now = ledger._clock()
    return Payment(
        payment_id=payment_id,
        user_id=purchase.user_id,
        flow=flow,
        status=PaymentStatus.PENDING,
        amount=what["amount"],
        currency=purchase.currency,
        metadata=purchase.metadata,
        created_at=now,
        updated_at=now,
    )


@mutation("6 1 answer", schedules_of("two_confirmations", count=120))
def a_late_failure_undoes_a_success(patch: pytest.MonkeyPatch) -> None:
    whole = Payment.fail

    def fail(self: Any, failure: Any, *, stripe_attempt_id: Any, now: Any, cause: str) -> Payment:
        if self.status is PaymentStatus.SUCCEEDED:
            moved: Payment = self._moved(PaymentStatus.FAILED, now, cause, failure=failure)
            return moved
        kept: Payment = whole(
            self, failure, stripe_attempt_id=stripe_attempt_id, now=now, cause=cause
        )
        return kept

    patch.setattr(Payment, "fail", fail)


@mutation("6", dying_in("whole_life"))
def the_history_forgets_its_beginning(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payments, "HISTORY_LIMIT", 2)


@mutation("unforeseen 1 3 rest answer", schedules_of("two_refunds_of_a_card"))
def a_lost_race_is_not_run_again(patch: pytest.MonkeyPatch) -> None:
    """Who finds that somebody else saved meanwhile takes the other's change for his own."""

    async def apply(self: Any, payment: Payment, change: Any) -> Payment:
        changed = change(payment)
        if changed is payment:
            return changed
        saved = await self._payments.save(payment, self._scheduled(changed))
        stored: Payment = saved or await self._payments.get(payment.payment_id)
        return stored

    patch.setattr(PaymentWriter, "apply", apply)


@mutation("1 8", stopped_in("a_page_is_made_while_it_is_given_up", ("buyer", 2), then="reconciler"))
def a_page_is_given_up_while_it_is_handed_out(patch: pytest.MonkeyPatch) -> None:
    async def give_up(self: Any, payment: Payment, *, cause: str) -> Payment:
        given_up: Payment = await self.apply(
            payment, lambda known: known.cancel(now=self._clock(), cause=cause)
        )
        return given_up

    patch.setattr(PaymentWriter, "give_up", give_up)


@mutation("1 rest", dying_in("abandoned"))
def what_is_given_up_stays_open_at_stripe(patch: pytest.MonkeyPatch) -> None:
    async def cancel(self: Any, intent_id: str, **_: Any) -> Any:
        return replace(await self.retrieve_payment_intent(intent_id), status="canceled")

    patch.setattr(StripeGateway, "cancel_payment_intent", cancel)


# Refunds


@mutation("3 rest", dying_in("two_refunds_alike"))
def a_refund_is_known_by_its_amount(patch: pytest.MonkeyPatch) -> None:
    whole = RefundMaker._resume

    async def resume(self: Any, payment: Payment, refund: Any, as_of: Any) -> Payment:
        for snapshot in await self.list_at_stripe(payment):
            if snapshot.amount == refund.amount:
                settled: Payment = await self.settle(payment, refund, snapshot, cause="reconciler")
                return settled
        return await whole(self, payment, refund, as_of)

    patch.setattr(RefundMaker, "_resume", resume)


@mutation("3 rest", dying_in("refund_page_in_part"))
def a_refund_of_ours_is_taken_for_one_from_the_dashboard(patch: pytest.MonkeyPatch) -> None:
    def find(payment: Payment, snapshot: Any) -> Any:
        return payment.refund_from_stripe(snapshot.stripe_refund_id)

    patch.setattr(refund_outcomes, "_find_refund", find)


@mutation("3", failing_in_recovery_of("refund_page_in_part", at="/v1/refunds"))
def a_refund_is_repeated_without_looking(patch: pytest.MonkeyPatch) -> None:
    """After a day, when Stripe has forgotten its key."""

    async def resume(self: Any, payment: Payment, refund: Any, as_of: Any) -> Payment:
        made: Payment = await self.make(payment, refund, as_of=as_of, cause="reconciler")
        return made

    patch.setattr(RefundMaker, "_resume", resume)


@mutation("3 7", failing_in("refund_page_in_part", at="update_one payments.payments"))
def refunds_have_a_new_key_each_time(patch: pytest.MonkeyPatch) -> None:
    whole = StripeGateway._post

    async def post(self: Any, operation: str, send: Any, **how: Any) -> Any:
        if operation == "refunds.create":
            how["key"] = new_id("key_")
        return await whole(self, operation, send, **how)

    async def resume(self: Any, payment: Payment, refund: Any, as_of: Any) -> Payment:
        made: Payment = await self.make(payment, refund, as_of=as_of, cause="reconciler")
        return made

    patch.setattr(StripeGateway, "_post", post)
    patch.setattr(RefundMaker, "_resume", resume)


@mutation("3 7 answer", schedules_of("two_refunds_of_a_card", "refund_and_dashboard_refund"))
def refunds_are_not_reserved(patch: pytest.MonkeyPatch) -> None:
    """Made at Stripe under what the caller knew, and written down afterwards."""
    whole = PaymentWriter.apply

    async def apply(self: Any, payment: Payment, change: Any) -> Payment:
        try:
            return await whole(self, payment, change)
        except RefundExceedsRemaining:
            return await whole(self, payment, change)

    def with_reservation(self: Any, refund: Any, now: Any, **changes: Any) -> Payment:
        changed: Payment = self._changed(now, refunds=(*self.refunds, refund), **changes)
        return changed

    patch.setattr(PaymentWriter, "apply", apply)
    patch.setattr(Payment, "_with_reservation", with_reservation)


@mutation("3 answer", failing_in("refund_card", at="/v1/refunds"))
def an_unknown_refund_is_taken_for_failed(patch: pytest.MonkeyPatch) -> None:
    whole = RefundMaker.make

    async def make(self: Any, payment: Payment, refund: Any, *, as_of: Any, cause: str) -> Payment:
        try:
            return await whole(self, payment, refund, as_of=as_of, cause=cause)
        except DependencyFailure:
            await self._settle(payment, refund, RefundStatus.FAILED, cause=cause)
            raise

    patch.setattr(RefundMaker, "make", make)


@mutation("3 rest 4", dying_in("refund_fails_later"))
def a_failed_refund_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    whole = EventHandlers.on_refund

    async def on_refund(self: Any, event: Any) -> bool:
        return True if event.object.status.value == "failed" else await whole(self, event)

    patch.setattr(EventHandlers, "on_refund", on_refund)


# Events


@mutation("4", failing_in("dispute_lost", at="update_one payments.payments", last_first=True))
def an_event_that_failed_is_answered_200(patch: pytest.MonkeyPatch) -> None:
    """And not kept for another try."""

    async def process(self: Any, event: Any, *, attempts: int) -> EventResult:
        with contextlib.suppress(Exception):
            await self._handlers.apply(event)
        await self._events.mark_finished(
            event.stripe_event_id, EventStatus.PROCESSED, now=self._clock()
        )
        return EventResult.PROCESSED

    patch.setattr(Inbox, "_process", process)


@mutation("4", dying_in("dispute_lost", last_first=True))
def an_event_is_marked_before_it_is_processed(patch: pytest.MonkeyPatch) -> None:
    whole = Inbox._process

    async def process(self: Any, event: Any, *, attempts: int) -> EventResult:
        await self._events.mark_finished(
            event.stripe_event_id, EventStatus.PROCESSED, now=self._clock()
        )
        return await whole(self, event, attempts=attempts)

    patch.setattr(Inbox, "_process", process)


@mutation("4", dying_in("dispute_lost"))
def an_event_is_acknowledged_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    """And Stripe's list is not read either."""

    async def add(self: Any, event: Any) -> bool:
        return True

    async def read(self: Any, report: Any) -> None:
        return None

    patch.setattr(WebhookEventRepository, "add", add)
    patch.setattr(MissedEvents, "read", read)


@mutation("4 rest", dying_in("dispute_lost"))
def a_died_worker_keeps_its_event(patch: pytest.MonkeyPatch) -> None:
    async def list_due(self: Any, now: Any, *, limit: int) -> list[str]:
        found = await self._collection.find({"status": "failed"}).to_list(limit)
        return [document["_id"] for document in found]

    async def claim(self: Any, event_id: str, **how: Any) -> None:
        return None

    patch.setattr(WebhookEventRepository, "list_due", list_due)
    patch.setattr(WebhookEventRepository, "claim", claim)


@mutation("4", histories_told(60))
def every_signature_is_good(patch: pytest.MonkeyPatch) -> None:
    def verify(self: Any, payload: bytes, signature: str | None) -> Any:
        return self.parse_event(payload.decode())

    patch.setattr(StripeGateway, "verify_event", verify)


@mutation("4", every_order_of("disputed_from_inquiry_to_verdict"))
def a_dispute_is_what_the_last_event_says(patch: pytest.MonkeyPatch) -> None:
    async def observe(self: Any, payment: Payment, told: Any, *, ask: Any) -> None:
        await self._writer.apply(
            payment,
            lambda known: known.record_issuer_report(
                told, instead_of=known.recorded(told), now=self._clock()
            ),
        )

    patch.setattr(IssuerReportRecorder, "observe", observe)


@mutation("4", every_schedule_of("a_dispute_is_decided_while_it_is_recorded"))
def a_slow_answer_about_a_dispute_is_recorded_all_the_same(patch: pytest.MonkeyPatch) -> None:
    whole = Payment.record_issuer_report

    def record(self: Any, claim: Any, *, instead_of: Any, now: Any) -> Payment:
        recorded: Payment = whole(self, claim, instead_of=self.recorded(claim), now=now)
        return recorded

    patch.setattr(Payment, "record_issuer_report", record)


@mutation("1 3 4", dying_in("reconcile", at="webhook_events"))
def the_place_in_stripes_list_moves_before_its_events_are_kept(patch: pytest.MonkeyPatch) -> None:
    whole = MissedEvents.read

    async def read(self: Any, report: Any) -> None:
        cursor = await self._locks.find_cursor(CURSOR) or await self._first_cursor()
        await self._locks.move_cursor(CURSOR, self._clock())

        async def find_cursor(_name: str) -> Any:
            return cursor

        with pytest.MonkeyPatch.context() as until_read:
            until_read.setattr(self._locks, "find_cursor", find_cursor)
            await whole(self, report)

    patch.setattr(MissedEvents, "read", read)


@mutation("3 4", dying_in("reconcile"))
def only_the_first_page_of_stripes_list_is_read(patch: pytest.MonkeyPatch) -> None:
    async def pages(self: Any, operation: str, list_page: Any) -> AsyncIterator[Any]:
        answer = await self._call(operation, lambda client: list_page(client, {}))
        yield answer["data"]

    patch.setattr(StripeGateway, "_pages", pages)


# Client retries and the reconciler


@mutation("unforeseen", failing_in("pay_with_credits"))
def a_write_conflict_is_not_foreseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(database, "_PASSING_CODES", frozenset({6}))


@mutation("7", histories_told(60))
def a_key_answers_another_request(patch: pytest.MonkeyPatch) -> None:
    def of(_class: Any, /, key: str, *, scope: str, **_: Any) -> Any:
        return idempotency_rules.IdempotentRequest(key, scope, "the same")

    patch.setattr(idempotency_rules.IdempotentRequest, "of", classmethod(of))


@mutation("rest unforeseen", failing_in("create_intent"))
def a_failure_is_kept_as_the_answer(patch: pytest.MonkeyPatch) -> None:
    async def refuse(self: Any, claim: Any, error: Any) -> None:
        body = {"refusal": {"code": error.code, "detail": error.detail, "facts": error.facts}}
        await self._keys.store_answer(claim.record, error.status, json.dumps(body))

    patch.setattr(idempotency_rules.IdempotencyService, "refuse", refuse)


@mutation("7 answer", stopped_in("refused_for_credits_that_come_back", ("first", 1), then="retry"))
def a_refusal_replaces_the_first_tries_answer(patch: pytest.MonkeyPatch) -> None:
    whole = CreditsService.pay

    async def pay(self: Any, *who: Any, payment_id: str, **_: Any) -> Any:
        return await whole(self, *who, payment_id=payment_id)

    async def store(self: Any, record: Any, status_code: int, body: str) -> bool:
        await self.store_answer(record, status_code, body)
        return True

    patch.setattr(CreditsService, "pay", pay)
    patch.setattr(IdempotencyKeyRepository, "store_refusal", store)


@mutation("7", dying_in("create_intent"))
def intents_are_made_under_a_new_key_each_time(patch: pytest.MonkeyPatch) -> None:
    whole = StripeGateway._post

    async def post(self: Any, operation: str, send: Any, **how: Any) -> Any:
        if operation == "payment_intents.create":
            how["key"] = new_id("key_")
        return await whole(self, operation, send, **how)

    patch.setattr(StripeGateway, "_post", post)


@mutation("7", dying_in("create_intent"))
def a_taken_over_key_gets_a_new_payment(patch: pytest.MonkeyPatch) -> None:
    whole = IdempotencyKeyRepository.take_over

    async def take_over(self: Any, known: Any, record: Any) -> Any:
        object.__setattr__(record, "resource_id", new_id("pay_"))
        return await whole(self, known, record)

    patch.setattr(IdempotencyKeyRepository, "take_over", take_over)


@mutation("rest", dying_in("create_intent"))
def a_key_is_never_free_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(idempotency_rules, "LEASE", timedelta(days=2))


@mutation("7 rest answer 1 8 2", dying_in("decline_then_pay"))
def one_key_for_each_order_instead_of_each_attempt(patch: pytest.MonkeyPatch) -> None:
    """The second card gets the first card's decline, for a day."""
    whole = StripeGateway.confirm_payment_intent

    async def confirm(self: Any, intent_id: str, **how: Any) -> Any:
        return await whole(self, intent_id, **{**how, "confirmation_id": intent_id})

    patch.setattr(StripeGateway, "confirm_payment_intent", confirm)


@mutation("1 rest", dying_in("confirm_card"))
def the_reconciler_trusts_webhooks(patch: pytest.MonkeyPatch) -> None:
    """A payment that has its PaymentIntent is left to events, which nobody reads afterwards."""

    async def finish(self: Any, payment: Payment, **_: Any) -> Payment:
        return payment

    async def read(self: Any, report: Any) -> None:
        return None

    patch.setattr(IntentService, "finish", finish)
    patch.setattr(MissedEvents, "read", read)


@mutation("1 8", dying_in("paid_by_webhook"))
def an_abandoned_payment_is_canceled_without_asking(patch: pytest.MonkeyPatch) -> None:
    async def finish(self: Any, payment: Payment, **_: Any) -> Payment:
        return await self._writer.give_up(payment, cause="abandoned")  # type: ignore[no-any-return]

    patch.setattr(IntentService, "finish", finish)


@mutation("8", failing_in("bank_debit_bounces"))
def an_unpaid_completed_session_counts_as_paid(patch: pytest.MonkeyPatch) -> None:
    whole = CardOutcomes.observe_session

    async def observe(self: Any, payment: Payment, session: Any, **how: Any) -> Payment:
        if session.status == "complete":
            session = replace(session, payment_status="paid")
        return await whole(self, payment, session, **how)

    patch.setattr(CardOutcomes, "observe_session", observe)


@mutation("9", dying_in("voucher_is_paid_after_a_day"))
def a_voucher_is_taken_for_a_shopper_who_left(patch: pytest.MonkeyPatch) -> None:
    def may_be_abandoned(intent: IntentSnapshot, now: datetime) -> bool:
        return intent.status != "processing"

    patch.setattr(IntentSnapshot, "may_be_abandoned", may_be_abandoned)


@mutation("6", every_order_of("bank_debit_bounced_in_other_words"))
def a_late_event_of_money_under_way_is_believed(patch: pytest.MonkeyPatch) -> None:
    whole = CardOutcomes._observe_under_way

    async def observe(self: Any, payment: Payment, intent: Any, *, cause: str, **_: Any) -> Payment:
        return await whole(self, payment, intent, cause=cause, is_current=True)

    patch.setattr(CardOutcomes, "_observe_under_way", observe)


@mutation("8", every_order_of("page_paid_in_the_shoppers_currency"))
def a_payment_is_held_for_what_an_event_says(patch: pytest.MonkeyPatch) -> None:
    whole = FulfilmentService.fulfil

    async def fulfil(self: Any, payment: Payment, **how: Any) -> Payment:
        return await whole(self, payment, **{**how, "is_current": True})

    patch.setattr(FulfilmentService, "fulfil", fulfil)


@mutation("10", dying_in("paid_by_webhook"))
def a_repeat_hands_out_what_it_did_then(patch: pytest.MonkeyPatch) -> None:
    async def present(self: Any, caller: Any, payment_id: str) -> Opened[IntentSnapshot]:
        payment = await self._lookup.get(caller, payment_id)
        intent = await self._gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)
        return Opened(payment, intent)

    patch.setattr(IntentService, "present", present)


@mutation("10", dying_in("page_paid_by_webhook"))
def a_repeat_hands_out_a_page_that_is_closed(patch: pytest.MonkeyPatch) -> None:
    async def present(self: Any, caller: Any, payment_id: str) -> None:
        return None

    patch.setattr(CheckoutService, "present", present)


@mutation("8 answer", schedules_of("a_shopper_pays_what_is_canceled"))
def a_payment_is_canceled_here_before_it_is_closed_at_stripe(patch: pytest.MonkeyPatch) -> None:
    async def cancel(self: Any, payment: Payment, *, cause: str, **_: Any) -> Payment:
        canceled: Payment = await self._writer.apply(
            payment, lambda known: known.cancel(now=self._clock(), cause=cause)
        )
        await self._gateway.cancel_payment_intent(
            canceled.stripe_payment_intent_id, reason="requested_by_customer"
        )
        return canceled

    patch.setattr(IntentService, "cancel", cancel)


async def first_catch(subject: Mutation, *, limit: int = 2_000) -> tuple[Outcome | None, int]:
    """The first case that reports one of the promises, and how many were run."""
    count = 0
    with subject.applied():
        async for outcome in subject.cases():
            count += 1
            if outcome.promises & subject.promises:
                return outcome, count
            if count >= limit:
                break
    return None, count


def names() -> Sequence[str]:
    return sorted(MUTATIONS)
