"""What paying by card with Stripe Elements and on Stripe's page have in common: the payment is open
at Stripe as one object, a PaymentIntent or a Checkout Session, which is made, handed out, followed
and closed in the same way.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Generic, TypeVar

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import Payment, PaymentStatus
from app.errors import AmountTooLarge, AmountTooSmall
from app.gateways.payments import (
    CancellationReason,
    IntentSnapshot,
    PaymentGateway,
    SessionSnapshot,
    StripeObjectMissing,
    StripeRefused,
)
from app.services.card_outcomes import CardOutcomes
from app.services.lookup import PaymentLookup
from app.services.payment_writer import PaymentWriter
from app.services.purchases import refusal_of

ABANDONED: Final = "abandoned"
"""The cause of a cancellation because no shopper tried to pay."""

Snapshot = TypeVar("Snapshot", IntentSnapshot, SessionSnapshot)


@dataclass(frozen=True, slots=True)
class Opened(Generic[Snapshot]):
    """A payment that a shopper can pay now, and what for: ``at_stripe`` holds the client secret or
    the page's address, which are for the one shopper and never stored or logged.
    """

    payment: Payment
    at_stripe: Snapshot


class CardFlow(ABC, Generic[Snapshot]):
    """Implements Flow."""

    route: ClassVar[str]
    """The route that starts such a payment, for the audit trail."""
    failure_is_final: ClassVar[bool]
    """Whether a payment that failed, and of which nothing is open at Stripe, can never be paid."""

    def __init__(
        self,
        writer: PaymentWriter,
        lookup: PaymentLookup,
        outcomes: CardOutcomes,
        gateway: PaymentGateway,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._lookup = lookup
        self._outcomes = outcomes
        self._gateway = gateway
        self._clock = clock

    async def present(self, caller: Caller, payment_id: str) -> Opened[Snapshot]:
        """A payment that was opened before, for a shopper who is to pay it now.

        Raises PaymentNotConfirmable when it cannot be paid any more.
        """
        return await self._at_present(await self._lookup.get(caller, payment_id))

    async def finish(self, payment: Payment, *, as_of: datetime) -> Payment:
        stripe_id = self._stripe_id(payment)
        if stripe_id is None:
            if not self._writer.may_be_made_at_stripe(payment):
                return await self._writer.give_up(payment, cause=ABANDONED)
            # The same key as the first time: Stripe returns what it made then, or makes it now.
            return (await self._make_at_stripe(payment)).payment
        abandoned = self._writer.is_abandoned(payment)
        try:
            snapshot = await self._retrieve(stripe_id)
        except StripeObjectMissing:
            if abandoned:
                return await self._writer.give_up(payment, cause=ABANDONED)
            raise
        payment = await self._follow_up(payment, snapshot)
        if payment.is_final or not abandoned:
            return payment
        if self._may_be_abandoned(snapshot):
            return await self._close(payment, stripe_id, cause=ABANDONED, reason="abandoned")
        if payment.status is PaymentStatus.FAILED and self.failure_is_final:
            return await self._writer.give_up(payment, cause=ABANDONED)
        return payment

    async def cancel(self, payment: Payment, *, as_of: datetime, cause: str) -> Payment:
        if self._stripe_id(payment) is None:
            payment = await self._writer.give_up(payment, cause=cause)
        stripe_id = self._stripe_id(payment)
        if payment.is_final or stripe_id is None:
            return payment
        snapshot = await self._retrieve(stripe_id)
        if not self._is_open(snapshot):
            payment = await self._observe(payment, snapshot, cause=cause)
        else:
            payment = await self._close(
                payment, stripe_id, cause=cause, reason="requested_by_customer"
            )
        if payment.status is PaymentStatus.FAILED and self.failure_is_final:
            return await self._writer.give_up(payment, cause=cause)
        return payment

    async def _open(self, payment: Payment, *, is_repeat: bool) -> Opened[Snapshot]:
        """``is_repeat``: an earlier try of the request may have come further.

        Raises PaymentNotConfirmable when the payment cannot be paid any more, ValidationFailed when
        Stripe refuses what the caller sent; then nothing was made.
        """
        if self._stripe_id(payment) is None:
            opened = await self._make_at_stripe(payment)
            if not is_repeat:
                return opened
            # Stripe repeats its first answer for a day, whatever became of the object since.
            payment = opened.payment
        return await self._at_present(payment)

    async def _at_present(self, payment: Payment) -> Opened[Snapshot]:
        if payment.is_over:
            payment.require_payable()
        stripe_id = self._stripe_id(payment)
        if stripe_id is None:
            raise LookupError(f"{payment.payment_id} was never open at Stripe")
        snapshot = await self._retrieve(stripe_id)
        payment = await self._observe(payment, snapshot, cause=self.route)
        if payment.is_over or not self._can_be_paid(snapshot):
            payment.require_payable()
            raise payment.not_confirmable("This checkout is closed. Please start again.")
        return Opened(payment, snapshot)

    async def _make_at_stripe(self, payment: Payment) -> Opened[Snapshot]:
        payment.require_payable()
        try:
            snapshot = await self._make(payment)
        except (AmountTooSmall, AmountTooLarge, StripeRefused) as refused:
            await self._writer.apply(
                payment, lambda known: known.cancel(now=self._clock(), cause="refused by Stripe")
            )
            raise refusal_of(refused) from refused
        payment = await self._writer.apply(
            payment, lambda known: self._with_id(known, snapshot, self._clock())
        )
        if payment.status is PaymentStatus.CANCELED:
            # Canceled while Stripe was asked: no shopper may be sent to pay it.
            await self._close_at_stripe(self._stripe_id(payment) or "", reason="abandoned")
        payment.require_payable()
        return Opened(payment, snapshot)

    async def _close(
        self, payment: Payment, stripe_id: str, *, cause: str, reason: CancellationReason
    ) -> Payment:
        try:
            snapshot = await self._close_at_stripe(stripe_id, reason=reason)
        except StripeRefused:
            # Paid, closed or submitted to the bank meanwhile: what Stripe says now is the answer.
            snapshot = await self._retrieve(stripe_id)
            if self._is_open(snapshot):
                raise
        return await self._observe(payment, snapshot, cause=cause)

    # What differs

    @abstractmethod
    def _stripe_id(self, payment: Payment) -> str | None: ...

    @abstractmethod
    def _with_id(self, payment: Payment, snapshot: Snapshot, now: datetime) -> Payment: ...

    @abstractmethod
    async def _make(self, payment: Payment) -> Snapshot: ...

    @abstractmethod
    async def _retrieve(self, stripe_id: str) -> Snapshot: ...

    @abstractmethod
    async def _close_at_stripe(self, stripe_id: str, *, reason: CancellationReason) -> Snapshot: ...

    @abstractmethod
    async def _observe(self, payment: Payment, snapshot: Snapshot, *, cause: str) -> Payment:
        """Applies a snapshot that was just fetched."""
        ...

    @abstractmethod
    async def _follow_up(self, payment: Payment, snapshot: Snapshot) -> Payment:
        """Applies all that Stripe knows, for the reconciler."""
        ...

    @abstractmethod
    def _is_open(self, snapshot: Snapshot) -> bool:
        """Whether a caller can close it."""
        ...

    @abstractmethod
    def _can_be_paid(self, snapshot: Snapshot) -> bool:
        """Whether a shopper is to pay it, who has not done so yet."""
        ...

    @abstractmethod
    def _may_be_abandoned(self, snapshot: Snapshot) -> bool:
        """Whether closing it takes nothing from a shopper who has tried to pay."""
        ...
