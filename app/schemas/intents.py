from dataclasses import replace
from typing import Annotated

from pydantic import Field, StringConstraints

from app.domain.payments import ElementsDetails, PaymentStatus
from app.gateways.payments import IntentSnapshot
from app.schemas.common import Currency, EmailAddress, PurchaseBody, ReplyBody, RequestBody, unset
from app.services.card_flow import Opened
from app.services.intents import Confirmation
from app.services.purchases import Purchase


class CreatePaymentIntentBody(PurchaseBody):
    currency: Currency = "usd"
    receipt_email: Annotated[
        EmailAddress | None,
        Field(
            description="Where Stripe sends a receipt once the payment is paid.", exclude_if=unset
        ),
    ] = None
    description: Annotated[
        Annotated[
            str,
            StringConstraints(
                strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]+$"
            ),
        ]
        | None,
        Field(description="Shown in Stripe's Dashboard and on its receipt.", exclude_if=unset),
    ] = None

    def to_purchase(self) -> Purchase:
        return replace(super().to_purchase(), currency=self.currency)

    def to_details(self) -> ElementsDetails | None:
        if self.receipt_email is None and self.description is None:
            return None
        return ElementsDetails(self.receipt_email, self.description)


class CreatePaymentIntentReply(ReplyBody):
    payment_id: str
    client_secret: str | None = Field(description="For Stripe.js; never store or log it.")
    payment_intent_id: str
    amount_cents: int
    currency: str
    status: PaymentStatus

    @classmethod
    def of(cls, created: Opened[IntentSnapshot]) -> "CreatePaymentIntentReply":
        return cls(
            payment_id=created.payment.payment_id,
            client_secret=created.at_stripe.client_secret,
            payment_intent_id=created.at_stripe.stripe_payment_intent_id,
            amount_cents=created.payment.amount,
            currency=created.payment.currency,
            status=created.payment.status,
        )


class ConfirmPaymentBody(RequestBody):
    """Without `payment_method_id` the answer says how the payment stands; an attempt is made only
    when Stripe waits for nothing but the confirmation (`requires_confirmation`).
    """

    payment_intent_id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    payment_method_id: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None


class ConfirmPaymentReply(ReplyBody):
    payment_id: str
    payment_intent_id: str
    status: PaymentStatus
    stripe_status: str
    requires_action: bool
    client_secret: str | None = Field(description="Only when the shopper must still act.")
    order_id: str | None = Field(description="Once paid.")

    @classmethod
    def of(cls, confirmation: Confirmation) -> "ConfirmPaymentReply":
        return cls(
            payment_id=confirmation.payment.payment_id,
            payment_intent_id=confirmation.payment.stripe_payment_intent_id or "",
            status=confirmation.payment.status,
            stripe_status=confirmation.stripe_status,
            requires_action=confirmation.requires_action,
            client_secret=confirmation.client_secret,
            order_id=confirmation.payment.order_id,
        )
