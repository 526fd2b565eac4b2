"""Refunds that a caller asks for: reserved on the payment first, then made, then settled."""

from dataclasses import dataclass
from typing import Final

from app.domain.callers import Caller
from app.domain.clock import Clock
from app.domain.money import display
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
from app.gateways.payments import PaymentGateway, StripeRefused
from app.observability import get_logger
from app.repositories.payments import PaymentRepository
from app.repositories.users import UserRepository
from app.services.lookup import PaymentLookup
from app.services.payment_writer import PaymentWriter
from app.services.refund_making import RefundMaker
from app.services.refund_outcomes import RefundOutcomes

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MadeRefund:
    payment: Payment
    refund: Refund


class RefundService:
    def __init__(
        self,
        writer: PaymentWriter,
        payments: PaymentRepository,
        lookup: PaymentLookup,
        maker: RefundMaker,
        outcomes: RefundOutcomes,
        users: UserRepository,
        gateway: PaymentGateway,
        *,
        allow_user_refunds: bool,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._payments = payments
        self._lookup = lookup
        self._maker = maker
        self._outcomes = outcomes
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
        payment, as_of = await self._lookup.read(caller, payment_id)
        if payment.payment_method is PaymentMethod.CREDITS:
            # Nothing is reserved for a user who is gone, or while the other database is away.
            await self._users.get_credits(payment.user_id)
        else:
            self._gateway.require_configured()
        payment = await self._writer.apply(
            payment,
            lambda known: known.reserve_refund(
                refund_id, amount=amount, credits=credits, reason=reason, now=self._clock()
            ),
        )
        refund = _refund_of(payment, refund_id)
        if refund.status is RefundStatus.PENDING:
            try:
                payment = await self._maker.make(payment, refund, as_of=as_of, cause="refund")
            except (StripeRefused, UserNotFound) as refused:
                raise await self._explained(payment.payment_id, refund_id, refused) from refused
            except DependencyFailure as failure:
                # Whether it was made is not known, or it will be made later: it is under way.
                log.warning(
                    "refund.outcome_unknown",
                    payment_id=payment.payment_id,
                    refund_id=refund_id,
                    error=failure.code,
                )
                payment = await self._payments.get(payment.payment_id)
            refund = _refund_of(payment, refund_id)
        if refund.was_refused:
            # By an earlier try of this request, whose answer was lost.
            raise _refusal_of(refund)
        return MadeRefund(payment, refund)

    async def _explained(
        self, payment_id: str, refund_id: str, refused: StripeRefused | UserNotFound
    ) -> PaymentServiceError:
        """What the caller is told. When Stripe knows of refunds that we do not, they are taken over
        first, to say what remains.
        """
        payment = await self._payments.get(payment_id)
        refund = _refund_of(payment, refund_id)
        if isinstance(refused, UserNotFound) or not _is_about_what_remains(refused):
            return _refusal_of(refund)
        try:
            payment = await self._outcomes.observe_all(payment, cause="refund refused by Stripe")
        except EventNotYetApplicable:
            # Another refund of ours is under way and reserves what Stripe gave back elsewhere.
            payment = await self._payments.get(payment_id)
        if payment.refundable_amount == 0:
            return PaymentNotRefundable("Nothing remains to be refunded.")
        if refund.amount > payment.refundable_amount:
            return RefundExceedsRemaining(
                f"{display(payment.refundable_amount, payment.currency)} of "
                f"{display(payment.amount, payment.currency)} remain.",
                remaining=payment.refundable_amount,
            )
        return _refusal_of(refund)


def _is_about_what_remains(refused: StripeRefused) -> bool:
    return refused.stripe_code == "charge_already_refunded" or refused.param == "amount"


_DISPUTED: Final = frozenset({"charge_disputed", "refund_disputed_payment"})
_REFUSALS: Final = {
    "balance_insufficient": "The balance at Stripe does not cover this refund. Add funds, then "
    "make the refund again.",
    "charge_already_refunded": "Stripe has refunded this payment already, as its Dashboard shows.",
    "charge_expired_for_refund": "Stripe no longer refunds this payment because it is too old. "
    "Return the money another way.",
    "charge_not_refundable": "Stripe does not refund payments made with this payment method. "
    "Return the money another way.",
    "insufficient_funds": "The balance at Stripe does not cover this refund. Add funds, then "
    "make the refund again.",
    "resource_missing": "Stripe does not have this payment.",
}
"""Why Stripe refuses a refund for good: https://docs.stripe.com/error-codes"""


def _refusal_of(refund: Refund) -> PaymentServiceError:
    """What the caller is told of a refund that was never made."""
    reason = refund.failure_reason or "refused"
    if reason == UserNotFound.code:
        return UserNotFound("The user to whom the credits belong no longer exists.")
    if reason in _DISPUTED:
        return PaymentNotRefundable(
            "The payment is disputed at the shopper's bank. "
            "Answer the dispute in Stripe's Dashboard instead.",
            reason=reason,
            refund_id=refund.refund_id,
        )
    detail = _REFUSALS.get(
        reason, f"Stripe refused this refund ({reason}). Look at the payment in Stripe's Dashboard."
    )
    return RefundRefused(detail, reason=reason, refund_id=refund.refund_id)


def _refund_of(payment: Payment, refund_id: str) -> Refund:
    refund = payment.refund(refund_id)
    if refund is None:
        raise LookupError(f"{payment.payment_id} has no refund {refund_id}")
    return refund
