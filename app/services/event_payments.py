"""Which payment an event is about, and whether it is ours at all."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.domain.clock import Clock
from app.domain.ids import PAYMENT_PREFIX
from app.domain.payments import Payment
from app.errors import EventNotYetApplicable
from app.gateways.payments import EventSnapshot, PaymentGateway, StripeObjectMissing
from app.observability import get_logger
from app.repositories.payments import PaymentRepository
from app.services.card_outcomes import CardOutcomes

ORPHAN_GRACE: Final = timedelta(hours=1)
"""How long an event may wait for the record of ours that it names, before it counts as foreign."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reference:
    """What an event's object says of its payment; the first two are ours, from the metadata."""

    payment_id: str | None = None
    deployment: str | None = None
    stripe_payment_intent_id: str | None = None
    stripe_checkout_session_id: str | None = None

    @property
    def names_a_payment(self) -> bool:
        return self.payment_id is not None and self.payment_id.startswith(PAYMENT_PREFIX)


class EventPayments:
    """What is recorded is ours, whatever deployment its metadata names: a restored database and a
    renamed deployment still know their payments.
    """

    def __init__(
        self,
        payments: PaymentRepository,
        outcomes: CardOutcomes,
        gateway: PaymentGateway,
        *,
        deployment: str,
        clock: Clock,
    ) -> None:
        """``deployment``: the name in the metadata of what this service makes at Stripe."""
        self._payments = payments
        self._outcomes = outcomes
        self._gateway = gateway
        self._deployment = deployment
        self._clock = clock

    async def find(self, event: EventSnapshot, reference: Reference) -> Payment | None:
        """The payment that the event is about; None when it is not ours.

        Raises EventNotYetApplicable when the metadata says that a payment is ours, and it is not
        there (yet).
        """
        payment = await self._find_recorded(reference)
        if payment is None:
            self._require_not_ours(event, reference)
        return payment

    async def find_or_ask_stripe(
        self, event: EventSnapshot, reference: Reference
    ) -> Payment | None:
        """The payment whose money the event is about. A refund or dispute that was made elsewhere
        carries no metadata: then the PaymentIntent is fetched, and applied to the payment that it
        names.

        Another PaymentIntent may carry our payment's id; what happens to its money is not ours.
        """
        intent_id = reference.stripe_payment_intent_id
        payment = await self._find_recorded(reference)
        if payment is None and reference.deployment is None and intent_id is not None:
            payment = await self._ask_stripe_and_apply(event, intent_id)
        elif payment is None:
            self._require_not_ours(event, reference)
        if payment is None or payment.stripe_payment_intent_id in (None, intent_id):
            return payment
        log.warning(
            "webhook.stranger",
            stripe_event_id=event.stripe_event_id,
            type=event.type,
            payment_id=payment.payment_id,
        )
        return None

    async def _find_recorded(self, reference: Reference) -> Payment | None:
        """By the id in the metadata first: the event may be faster than our record of Stripe's."""
        payment = None
        if reference.payment_id is not None and reference.names_a_payment:
            payment = await self._payments.find(reference.payment_id)
        if payment is None and reference.stripe_checkout_session_id is not None:
            payment = await self._payments.find_by_checkout_session(
                reference.stripe_checkout_session_id
            )
        if payment is None and reference.stripe_payment_intent_id is not None:
            payment = await self._payments.find_by_payment_intent(
                reference.stripe_payment_intent_id
            )
        return payment

    def _require_not_ours(self, event: EventSnapshot, reference: Reference) -> None:
        about = {"stripe_event_id": event.stripe_event_id, "type": event.type}
        if reference.deployment != self._deployment or not reference.names_a_payment:
            log.info("webhook.not_ours", **about, deployment=reference.deployment)
            return
        if self._clock() - event.created_at < ORPHAN_GRACE:
            raise EventNotYetApplicable("The payment is not known yet.", retry_after=30)
        log.warning("webhook.orphan", **about)

    async def _ask_stripe_and_apply(
        self, event: EventSnapshot, stripe_payment_intent_id: str
    ) -> Payment | None:
        try:
            intent = await self._gateway.retrieve_payment_intent(stripe_payment_intent_id)
        except StripeObjectMissing:
            return None
        payment = await self.find(event, Reference(intent.payment_id, intent.deployment))
        if payment is None:
            return None
        return await self._outcomes.observe_intent(
            payment, intent, cause=event.cause, is_current=True
        )
