"""Payments with the account's credits, which live in another database.

The debit and the mark that tells of it are one update of the user's document. Whoever finds a
payment half-done (a retry, the reconciler) reads the mark and finishes; a payment that is given up
leaves a cancelling mark first, which no late debit passes. So the mark decides, and it decides
once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.credits import DebitOutcome
from app.domain.payments import Failure, Payment, PaymentFlow
from app.domain.schedule import MARK_RETENTION
from app.errors import (
    InsufficientCredits,
    PaymentNotConfirmable,
    PaymentServiceError,
    UserNotFound,
)
from app.repositories.users import UserRepository
from app.services.fulfilment import FulfilmentService
from app.services.payment_writer import PaymentWriter
from app.services.purchases import Pricing, Purchase

ABANDONED: Final = Failure("abandoned", "The payment was not completed in time.")
CANCELED: Final = Failure("canceled", "The payment was canceled before it was completed.")


@dataclass(frozen=True, slots=True)
class CreditsPayment:
    """``remaining_credits`` is the balance after the payment."""

    payment: Payment
    remaining_credits: int


class CreditsService:
    def __init__(
        self,
        writer: PaymentWriter,
        fulfilment: FulfilmentService,
        users: UserRepository,
        pricing: Pricing,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._fulfilment = fulfilment
        self._users = users
        self._pricing = pricing
        self._clock = clock

    async def pay(
        self, caller: Caller, purchase: Purchase, *, payment_id: str, is_repeat: bool = False
    ) -> CreditsPayment:
        """Repeating it with the same ``payment_id`` continues the same payment; ``is_repeat`` tells
        that another try may be on its way.

        Raises UserNotFound or InsufficientCredits; then nothing was taken.
        """
        caller.require_user(purchase.user_id)
        amount, credits = self._pricing.credits_price(purchase)
        payment, as_of = await self._writer.find(payment_id)
        if payment is None:
            # Asked before there is a record: it must be known that the user exists, and a balance
            # that is too small now is not worth a failed payment in the history. The debit itself
            # checks again. A repeat is refused by the debit only: a refusal that leaves nothing
            # behind would not hold the other try back, or may come of what that one has taken.
            available = await self._users.get_credits(purchase.user_id)
            if available < credits and not is_repeat:
                raise _insufficient(credits, available)
            payment = await self._writer.open(
                payment_id,
                PaymentFlow.CREDITS,
                purchase,
                amount=amount,
                credits=credits,
            )
        return await self._debit(payment, as_of)

    async def finish(
        self, payment: Payment, *, as_of: datetime, failure: Failure = ABANDONED
    ) -> Payment:
        """Implements Flow: a debit that happened is completed, one that did not is given up.

        ``as_of`` is when the payment was read.
        """
        try:
            debit = await self._users.cancel_debit(
                payment.user_id, payment_id=payment.payment_id, as_of=as_of, now=self._clock()
            )
        except UserNotFound:
            return await self._fail(payment, failure)
        if debit.is_taken:
            return await self._succeed(payment)
        return await self._fail(payment, failure)

    async def cancel(self, payment: Payment, *, as_of: datetime, cause: str) -> Payment:
        """Implements Flow: only a payment that was cut short before its debit can be canceled, and
        has then failed.
        """
        return await self.finish(payment, as_of=as_of, failure=CANCELED)

    async def remove_marks(self, payment: Payment) -> Payment:
        """Only for a payment that is at rest but for its marks, long after the last change."""
        keys = frozenset(payment.open_marks)
        # Who reads it after its last change sees that nothing is left to do. Half the time in
        # between is for clocks that differ and for a change that was slow to be saved.
        await self._users.remove_marks(
            payment.user_id, keys, removed_until=payment.updated_at + MARK_RETENTION / 2
        )
        return await self._writer.apply(
            payment, lambda known: known.close_marks(keys, now=self._clock())
        )

    async def _debit(self, payment: Payment, as_of: datetime) -> CreditsPayment:
        if payment.status.is_paid:
            payment = await self._fulfilment.write_order(payment)
            return CreditsPayment(payment, await self._users.get_credits(payment.user_id))
        if payment.is_final:
            # Not even tried: the mark that would stop the debit may have been removed by now.
            raise _refusal(payment, await self._users.get_credits(payment.user_id))
        debit = await self._users.take_credits(
            payment.user_id,
            payment_id=payment.payment_id,
            credits=payment.credits,
            as_of=as_of,
            now=self._clock(),
        )
        if debit.outcome is DebitOutcome.INSUFFICIENT:
            available = debit.balance
            # Another try of this very request may still be on its way: only a mark stops it.
            debit = await self._users.cancel_debit(
                payment.user_id, payment_id=payment.payment_id, as_of=as_of, now=self._clock()
            )
            if not debit.is_taken:
                refusal = _insufficient(payment.credits, available)
                await self._fail(payment, Failure(refusal.code, refusal.detail))
                raise refusal
        if not debit.is_taken:
            # Given up before, by the reconciler or by another try of the request.
            raise _refusal(await self._fail(payment, ABANDONED), debit.balance)
        payment = await self._succeed(payment)
        return CreditsPayment(payment, debit.balance)

    async def _succeed(self, payment: Payment) -> Payment:
        payment = await self._writer.apply(
            payment, lambda known: known.succeed(now=self._clock(), cause="credits taken")
        )
        return await self._fulfilment.write_order(payment)

    async def _fail(self, payment: Payment, failure: Failure) -> Payment:
        return await self._writer.apply(
            payment,
            lambda known: known.fail(
                failure, stripe_attempt_id=None, now=self._clock(), cause=failure.code
            ),
        )


def _refusal(payment: Payment, available: int) -> PaymentServiceError:
    """Why a failed payment failed."""
    if payment.failure in (ABANDONED, CANCELED):
        return PaymentNotConfirmable(
            "This payment ended before it was completed and nothing was taken. Please start again.",
            payment_id=payment.payment_id,
            payment_status=payment.status.value,
        )
    return _insufficient(payment.credits, available)


def _insufficient(required: int, available: int) -> InsufficientCredits:
    return InsufficientCredits(
        f"The payment needs {required} credits, {available} are available.",
        required=required,
        available=available,
    )
