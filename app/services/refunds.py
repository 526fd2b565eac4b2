"""Refunds: reserved on the payment, then made at Stripe or as credits, then settled.

https://docs.stripe.com/refunds. A refund whose outcome is not known stays reserved and pending, and
is repeated with the same key until there is an answer: it is never made twice and never forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.payments import Payment, PaymentMethod
from app.domain.refunds import Refund, RefundStatus
from app.errors import (
    DependencyFailure,
    EventNotYetApplicable,
    PaymentNotRefundable,
    PaymentServiceError,
    RefundExceedsRemaining,
    RefundRefused,
    UserNotFound,
)
from app.gateways.payments import PaymentGateway, RefundSnapshot, StripeRefused
from app.observability import get_logger
from app.repositories.users import UserRepository
from app.services.fulfilment import FulfilmentService
from app.services.ledger import PaymentLedger
from app.services.lookup import PaymentLookup

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MadeRefund:
    payment: Payment
    refund: Refund


class RefundService:
    def __init__(
        self,
        ledger: PaymentLedger,
        lookup: PaymentLookup,
        fulfilment: FulfilmentService,
        users: UserRepository,
        gateway: PaymentGateway,
        *,
        allow_user_refunds: bool,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._fulfilment = fulfilment
        self._users = users
        self._gateway = gateway
        self._allow_user_refunds = allow_user_refunds
        self._clock = clock

    async def refund(
        self,
        caller: Caller,
        payment_id: str,
        *,
        refund_id: str,
        amount: int | None,
        credits: int | None,
        reason: str | None,
    ) -> MadeRefund:
        """``amount`` in minor units, ``credits`` for a credits payment; neither: all that remains.

        Repeating it with the same ``refund_id`` continues the same refund. A refund that Stripe did
        not answer for is returned as pending. Raises PaymentNotRefundable, RefundExceedsRemaining,
        RefundRefused.
        """
        caller.require_refund_permission(self._allow_user_refunds)
        as_of = self._clock()
        payment = await self._lookup.get(caller, payment_id)
        if payment.payment_method is PaymentMethod.CREDITS:
            # Nothing is reserved for a user who is gone, or while the other database is away.
            await self._users.get_credits(payment.user_id)
        else:
            self._gateway.require_configured()
        payment = await self._ledger.apply(
            payment,
            lambda known: known.reserve_refund(
                refund_id, amount=amount, credits=credits, reason=reason, now=self._clock()
            ),
        )
        payment = await self._make(payment, _refund_of(payment, refund_id), as_of)
        refund = _refund_of(payment, refund_id)
        if refund.was_refused:
            # By an earlier try of this request, whose answer was lost.
            raise _refusal_of(refund)
        return MadeRefund(payment, refund)

    async def resume(self, payment: Payment, *, as_of: datetime) -> Payment:
        """For the reconciler: every pending refund is looked for, and made if it is not there.

        ``as_of`` is when the payment was read. One refund's failure does not stop the others; the
        first is raised at the end.
        """
        failures: list[DependencyFailure] = []
        for refund in payment.refunds:
            if refund.status is not RefundStatus.PENDING:
                continue
            try:
                payment = await self._resume_one(payment, refund, as_of)
            except DependencyFailure as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return payment

    async def _resume_one(self, payment: Payment, refund: Refund, as_of: datetime) -> Payment:
        if payment.payment_method is PaymentMethod.CREDITS:
            return await self._resume_credits(payment, refund, as_of)
        if refund.stripe_refund_id is None:
            return await self._resume_at_stripe(payment, refund)
        snapshot = await self._gateway.retrieve_refund(refund.stripe_refund_id)
        return await self._settle(payment, refund, snapshot, cause="reconciler")

    async def observe(
        self, payment: Payment, snapshot: RefundSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        """Applies what Stripe says of a refund, ours or one that was made in the dashboard.

        Unless ``is_current`` (Stripe was just asked), Stripe is asked for the amount of one that is
        not recorded: an event may be in the words of another API version.
        """
        refund = _find_refund(payment, snapshot)
        if refund is None:
            if not is_current:
                snapshot = await self._gateway.retrieve_refund(snapshot.stripe_refund_id)
            payment = await self._take_over(payment, snapshot)
            refund = _find_refund(payment, snapshot)
            if refund is None:
                raise LookupError(f"{payment.payment_id} did not take over a refund")
        return await self._settle(payment, refund, snapshot, cause=cause)

    async def observe_all(self, payment: Payment, *, cause: str) -> Payment:
        """Applies what Stripe says of all refunds of the payment."""
        for snapshot in await self._list_at_stripe(payment):
            payment = await self.observe(payment, snapshot, cause=cause, is_current=True)
        return payment

    async def _make(self, payment: Payment, refund: Refund, as_of: datetime) -> Payment:
        if refund.status is not RefundStatus.PENDING:
            return payment
        try:
            if payment.payment_method is PaymentMethod.CREDITS:
                return await self._give_back_credits(payment, refund, as_of)
            return await self._make_at_stripe(payment, refund, cause="refund")
        except StripeRefused as refused:
            payment = await self._ledger.refresh(payment)
            refund = _refund_of(payment, refund.refund_id)
            await self._explain(payment, refund, refused)
            raise _refusal_of(refund) from refused
        except DependencyFailure as failure:
            # Whether it was made is not known, or it will be made later: the refund is under way.
            log.warning(
                "refund.outcome_unknown",
                payment_id=payment.payment_id,
                refund_id=refund.refund_id,
                error=failure.code,
            )
            return await self._ledger.refresh(payment)

    async def _make_at_stripe(self, payment: Payment, refund: Refund, *, cause: str) -> Payment:
        try:
            snapshot = await self._gateway.create_refund(payment, refund)
        except StripeRefused as refused:
            reason = refused.stripe_code or refused.param or "refused"
            await self._settle_as(
                payment, refund, RefundStatus.FAILED, cause=cause, failure_reason=reason
            )
            raise
        return await self._settle(payment, refund, snapshot, cause=cause)

    async def _resume_at_stripe(self, payment: Payment, refund: Refund) -> Payment:
        """Looks first: Stripe may have made it, and forgets an idempotency key after a day."""
        for snapshot in await self._list_at_stripe(payment):
            if snapshot.refund_id == refund.refund_id:
                return await self._settle(payment, refund, snapshot, cause="reconciler")
        try:
            return await self._make_at_stripe(payment, refund, cause="reconciler")
        except StripeRefused as refused:
            log.warning(
                "refund.refused",
                payment_id=payment.payment_id,
                refund_id=refund.refund_id,
                stripe_code=refused.stripe_code,
            )
            return await self._ledger.refresh(payment)

    async def _explain(self, payment: Payment, refund: Refund, refused: StripeRefused) -> None:
        """Stripe knows of refunds that we do not: take them over, then say what remains."""
        if refused.stripe_code != "charge_already_refunded" and refused.param != "amount":
            return
        try:
            payment = await self.observe_all(payment, cause="refund refused by Stripe")
        except EventNotYetApplicable:
            # Another refund of ours is under way and reserves what Stripe gave back elsewhere.
            payment = await self._ledger.refresh(payment)
        if payment.refundable_amount == 0:
            raise PaymentNotRefundable("Nothing remains to be refunded.") from refused
        if refund.amount > payment.refundable_amount:
            raise RefundExceedsRemaining(
                f"{payment.refundable_amount} of {payment.amount} remain.",
                remaining=payment.refundable_amount,
            ) from refused

    async def _take_over(self, payment: Payment, snapshot: RefundSnapshot) -> Payment:
        if not payment.status.is_paid:
            raise EventNotYetApplicable("The payment is not known as paid yet.", retry_after=30)

        def change(known: Payment) -> Payment:
            if _find_refund(known, snapshot) is not None:
                # One of ours, made by another worker since the payment was read.
                return known
            return known.take_over_refund(
                snapshot.stripe_refund_id,
                amount=snapshot.amount,
                reason=snapshot.reason,
                now=self._clock(),
                status=snapshot.status,
                failure_reason=snapshot.failure_reason,
            )

        try:
            return await self._ledger.apply(payment, change)
        except RefundExceedsRemaining:
            # Refunds of ours reserve what Stripe gave back already; Stripe decides them first.
            as_of = self._clock()
            payment = await self.resume(await self._ledger.refresh(payment), as_of=as_of)
        try:
            return await self._ledger.apply(payment, change)
        except RefundExceedsRemaining as exceeds:
            raise EventNotYetApplicable(exceeds.detail, retry_after=30) from exceeds

    async def _give_back_credits(
        self, payment: Payment, refund: Refund, as_of: datetime
    ) -> Payment:
        try:
            await self._users.give_back_credits(
                payment.user_id,
                refund_id=refund.refund_id,
                credits=refund.credits,
                as_of=as_of,
                now=self._clock(),
            )
        except UserNotFound as error:
            await self._settle_as(
                payment,
                refund,
                RefundStatus.FAILED,
                cause="refund",
                failure_reason=UserNotFound.code,
            )
            raise _refusal_of(replace(refund, failure_reason=UserNotFound.code)) from error
        return await self._settle_as(payment, refund, RefundStatus.SUCCEEDED, cause="refund")

    async def _resume_credits(self, payment: Payment, refund: Refund, as_of: datetime) -> Payment:
        try:
            return await self._give_back_credits(payment, refund, as_of)
        except UserNotFound:
            log.warning(
                "refund.refused",
                payment_id=payment.payment_id,
                refund_id=refund.refund_id,
                error=UserNotFound.code,
            )
            return await self._ledger.refresh(payment)

    async def _settle(
        self, payment: Payment, refund: Refund, snapshot: RefundSnapshot, *, cause: str
    ) -> Payment:
        return await self._settle_as(
            payment,
            refund,
            snapshot.status,
            cause=cause,
            stripe_refund_id=snapshot.stripe_refund_id,
            failure_reason=snapshot.failure_reason,
        )

    async def _settle_as(
        self,
        payment: Payment,
        refund: Refund,
        status: RefundStatus,
        *,
        cause: str,
        stripe_refund_id: str | None = None,
        failure_reason: str | None = None,
    ) -> Payment:
        payment = await self._ledger.apply(
            payment,
            lambda known: known.settle_refund(
                refund.refund_id,
                status,
                now=self._clock(),
                cause=f"{cause} {refund.refund_id}",
                stripe_refund_id=stripe_refund_id,
                failure_reason=failure_reason,
            ),
        )
        return await self._fulfilment.write_order(payment)

    async def _list_at_stripe(self, payment: Payment) -> Sequence[RefundSnapshot]:
        if payment.stripe_payment_intent_id is None:
            return ()
        return await self._gateway.list_refunds(payment.stripe_payment_intent_id)


_DISPUTED: Final = frozenset({"charge_disputed", "refund_disputed_payment"})
_REFUSALS: Final = {
    "balance_insufficient": "The balance at Stripe does not cover this refund. Add funds, then "
    "refund again with a new Idempotency-Key.",
    "charge_expired_for_refund": "Stripe no longer refunds this payment because it is too old. "
    "Return the money another way.",
    "charge_not_refundable": "Stripe does not refund payments made with this payment method. "
    "Return the money another way.",
    "insufficient_funds": "The balance at Stripe does not cover this refund. Add funds, then "
    "refund again with a new Idempotency-Key.",
    "resource_missing": "Stripe does not have this payment.",
}
"""Why Stripe refuses a refund for good: https://docs.stripe.com/error-codes"""


def _refusal_of(refund: Refund) -> PaymentServiceError:
    """What the caller is told of a refund that was never made."""
    reason = refund.failure_reason or "refused"
    if reason == UserNotFound.code:
        return UserNotFound("The user to whom the credits belong no longer exists.")
    if reason in _DISPUTED:
        return PaymentNotRefundable("The payment is disputed at the shopper's bank.")
    detail = _REFUSALS.get(reason, f"Stripe refused this refund ({reason}).")
    return RefundRefused(detail, reason=reason, refund_id=refund.refund_id)


def _find_refund(payment: Payment, snapshot: RefundSnapshot) -> Refund | None:
    """By Stripe's id, or by ours, which Stripe was given and which may be all that is recorded."""
    refund = payment.refund_from_stripe(snapshot.stripe_refund_id)
    if refund is None and snapshot.refund_id is not None:
        refund = payment.refund(snapshot.refund_id)
    return refund


def _refund_of(payment: Payment, refund_id: str) -> Refund:
    refund = payment.refund(refund_id)
    if refund is None:
        raise LookupError(f"{payment.payment_id} has no refund {refund_id}")
    return refund
