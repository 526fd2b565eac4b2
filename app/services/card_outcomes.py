"""What Stripe says about a card payment, applied to ours.

Everyone who learns something (an event, a confirmation, a look-up, the reconciler) comes here with
a snapshot. Snapshots of events are hints that may be old: they only move a payment forward, and
where an old one could mislead, Stripe is asked for the present state.
"""

from app.domain.clock import Clock
from app.domain.payments import Failure, Payment, PaymentStatus, ReviewReason
from app.gateways.payments import (
    IntentSnapshot,
    IntentStatus,
    PaymentGateway,
    SessionPaymentStatus,
    SessionSnapshot,
    SessionStatus,
)
from app.services.fulfilment import FulfilmentService
from app.services.payment_writer import PaymentWriter


class CardOutcomes:
    def __init__(
        self,
        writer: PaymentWriter,
        fulfilment: FulfilmentService,
        gateway: PaymentGateway,
        *,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._fulfilment = fulfilment
        self._gateway = gateway
        self._clock = clock

    async def observe_intent(
        self, payment: Payment, intent: IntentSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        """``is_current``: the snapshot was just fetched, rather than delivered some time later."""
        if payment.stripe_payment_intent_id is None:
            payment = await self._writer.apply(
                payment,
                lambda known: known.with_payment_intent(
                    intent.stripe_payment_intent_id, now=self._clock()
                ),
            )
        if payment.stripe_payment_intent_id != intent.stripe_payment_intent_id:
            return await self._observe_stranger(payment, intent, is_current=is_current)
        match intent.status:
            case IntentStatus.SUCCEEDED:
                return await self._observe_success(
                    payment, intent, cause=cause, is_current=is_current
                )
            case _ if intent.is_under_way:
                return await self._observe_under_way(
                    payment, intent, cause=cause, is_current=is_current
                )
            case IntentStatus.CANCELED:
                return await self._writer.apply(
                    payment, lambda known: known.cancel(now=self._clock(), cause=cause)
                )
            case IntentStatus.REQUIRES_PAYMENT_METHOD if intent.failure is not None:
                return await self._observe_failure(
                    payment, intent, intent.failure, cause=cause, is_current=is_current
                )
            case IntentStatus.REQUIRES_ACTION | IntentStatus.REQUIRES_CONFIRMATION if is_current:
                return await self._writer.apply(
                    payment, lambda known: known.reopen(now=self._clock(), cause=cause)
                )
            case _:
                return payment

    async def observe_session(
        self, payment: Payment, session: SessionSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        """A completed session is not yet paid: a delayed payment method settles days later.

        https://docs.stripe.com/checkout/fulfillment
        """
        session_id, intent_id = session.stripe_checkout_session_id, session.stripe_payment_intent_id
        now = self._clock()
        payment = await self._writer.apply(
            payment, lambda known: known.with_checkout_session(session_id, now=now)
        )
        if payment.stripe_checkout_session_id != session_id:
            return payment
        if intent_id is not None:
            payment = await self._writer.apply(
                payment, lambda known: known.with_payment_intent(intent_id, now=now)
            )
        match session.status, session.payment_status:
            case SessionStatus.COMPLETE, SessionPaymentStatus.PAID:
                payment = await self._fulfilment.fulfil(
                    payment,
                    amount=session.amount_total,
                    currency=session.currency,
                    stripe_attempt_id=None,
                    cause=cause,
                    is_current=is_current,
                )
                if is_current or _is_settled(payment):
                    return payment
                current = await self._gateway.retrieve_checkout_session(session_id)
                return await self.observe_session(payment, current, cause=cause, is_current=True)
            case SessionStatus.COMPLETE, SessionPaymentStatus.UNPAID:
                return await self._observe_unpaid_completion(
                    payment, intent_id, cause=cause, is_current=is_current
                )
            case SessionStatus.EXPIRED, _:
                return await self._writer.apply(
                    payment, lambda known: known.cancel(now=self._clock(), cause=cause)
                )
            case _:
                return payment

    async def observe_failed_session(
        self, payment: Payment, session: SessionSnapshot, *, cause: str
    ) -> Payment:
        """An event says that the bank refused a delayed payment; its PaymentIntent knows why."""
        payment = await self.observe_session(payment, session, cause=cause, is_current=False)
        intent_id = session.stripe_payment_intent_id
        if intent_id is not None:
            intent = await self._gateway.retrieve_payment_intent(intent_id)
            return await self.observe_intent(payment, intent, cause=cause, is_current=True)
        failure = Failure("payment_failed", "The payment failed.")
        return await self._writer.apply(
            payment,
            lambda known: known.fail(
                failure, stripe_attempt_id=None, now=self._clock(), cause=cause
            ),
        )

    async def look_up(self, payment: Payment, *, cause: str) -> Payment:
        """Asks Stripe for the present state of a payment that has a PaymentIntent or a session."""
        if payment.stripe_checkout_session_id is not None:
            session = await self._gateway.retrieve_checkout_session(
                payment.stripe_checkout_session_id
            )
            payment = await self.observe_session(payment, session, cause=cause, is_current=True)
        if payment.status.is_paid or payment.stripe_payment_intent_id is None:
            return payment
        intent = await self._gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)
        return await self.observe_intent(payment, intent, cause=cause, is_current=True)

    async def _observe_success(
        self, payment: Payment, intent: IntentSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        """An event may say it in the format of another API version (the shopper's currency, under
        Adaptive Pricing), so a person is only called for what Stripe says when it is asked.
        """
        payment = await self._fulfilment.fulfil(
            payment,
            amount=intent.amount_received,
            currency=intent.currency,
            stripe_attempt_id=intent.stripe_attempt_id,
            cause=cause,
            is_current=is_current,
        )
        if is_current or _is_settled(payment):
            return payment
        return await self._observe_present_intent(payment, intent, cause=cause)

    async def _observe_under_way(
        self, payment: Payment, intent: IntentSnapshot, *, cause: str, is_current: bool
    ) -> Payment:
        def process(known: Payment) -> Payment:
            if known.was_tried and not is_current:
                # It may be of an attempt before the one that failed: only Stripe knows.
                return known
            return known.process(
                stripe_attempt_id=intent.stripe_attempt_id, now=self._clock(), cause=cause
            )

        payment = await self._writer.apply(payment, process)
        if is_current or payment.status not in (PaymentStatus.PENDING, PaymentStatus.FAILED):
            return payment
        return await self._observe_present_intent(payment, intent, cause=cause)

    async def _observe_present_intent(
        self, payment: Payment, intent: IntentSnapshot, *, cause: str
    ) -> Payment:
        current = await self._gateway.retrieve_payment_intent(intent.stripe_payment_intent_id)
        return await self.observe_intent(payment, current, cause=cause, is_current=True)

    async def _observe_unpaid_completion(
        self, payment: Payment, intent_id: str | None, *, cause: str, is_current: bool
    ) -> Payment:
        def process(known: Payment) -> Payment:
            # Decided on the payment as it is stored: its failure may be recorded at the same
            # moment. Only the PaymentIntent knows whether it failed before or after.
            is_old = known.was_tried and not is_current
            if intent_id is not None and (known.status is PaymentStatus.FAILED or is_old):
                return known
            return known.process(stripe_attempt_id=None, now=self._clock(), cause=cause)

        payment = await self._writer.apply(payment, process)
        is_open = payment.status in (PaymentStatus.PENDING, PaymentStatus.FAILED)
        if not is_open or intent_id is None:
            return payment
        intent = await self._gateway.retrieve_payment_intent(intent_id)
        return await self.observe_intent(payment, intent, cause=cause, is_current=True)

    async def _observe_failure(
        self,
        payment: Payment,
        intent: IntentSnapshot,
        failure: Failure,
        *,
        cause: str,
        is_current: bool,
    ) -> Payment:
        """A failure belongs to one attempt; the failure of an older attempt changes nothing.

        Without a charge (3-D Secure was refused) an attempt is known by its payment method, which
        may be tried again and fail again: only Stripe's present state tells that from old news.
        """
        stripe_attempt_id = intent.failed_attempt

        def fail(known: Payment) -> Payment:
            if not is_current and _may_be_old_news(known, stripe_attempt_id):
                return known
            failed_again = is_current and _may_have_failed_again(known, stripe_attempt_id)
            return known.fail(
                failure,
                stripe_attempt_id=None if failed_again else stripe_attempt_id,
                now=self._clock(),
                cause=cause,
            )

        payment = await self._writer.apply(payment, fail)
        if is_current or not _may_be_old_news(payment, stripe_attempt_id):
            return payment
        current = await self._gateway.retrieve_payment_intent(intent.stripe_payment_intent_id)
        still = current.status == IntentStatus.REQUIRES_PAYMENT_METHOD
        if stripe_attempt_id is not None and not (
            still and current.failed_attempt == stripe_attempt_id
        ):
            payment = await self._writer.apply(
                payment,
                lambda known: known.note_failed_attempt(stripe_attempt_id, now=self._clock()),
            )
        return await self.observe_intent(payment, current, cause=cause, is_current=True)

    async def _observe_stranger(
        self, payment: Payment, intent: IntentSnapshot, *, is_current: bool
    ) -> Payment:
        """Another PaymentIntent carries our payment's id. Money on it is a case for a person."""
        if intent.status != IntentStatus.SUCCEEDED or payment.review is not None:
            return payment
        if not is_current:
            intent = await self._gateway.retrieve_payment_intent(intent.stripe_payment_intent_id)
            return await self._observe_stranger(payment, intent, is_current=True)
        detail = (
            f"{intent.stripe_payment_intent_id} was paid for this payment, "
            f"whose PaymentIntent is {payment.stripe_payment_intent_id}."
        )
        return await self._writer.apply(
            payment, lambda known: known.hold(ReviewReason.PAID_TWICE, detail, now=self._clock())
        )


def _is_settled(payment: Payment) -> bool:
    return payment.status.is_paid or payment.review is not None


def _may_be_old_news(payment: Payment, stripe_attempt_id: str | None) -> bool:
    """While an attempt is processing, a failure may be of the one before: news of attempts can
    come in any order, and nothing in them tells which is newer.
    """
    processing = payment.status is PaymentStatus.PROCESSING
    return processing or _may_have_failed_again(payment, stripe_attempt_id)


def _may_have_failed_again(payment: Payment, stripe_attempt_id: str | None) -> bool:
    """The payment went on after this failure: for another attempt, or misled by old news."""
    went_on = payment.status in (PaymentStatus.PENDING, PaymentStatus.PROCESSING)
    return went_on and stripe_attempt_id in payment.failed_attempts
