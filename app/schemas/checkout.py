from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.domain.payments import Payment
from app.gateways.payments import SessionSnapshot
from app.schemas.common import (
    Cart,
    Currency,
    EmailAddress,
    Metadata,
    ReplyBody,
    UserBody,
    cart_items,
    unset,
)
from app.services.card_flow import Opened
from app.services.purchases import Purchase

# https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-locale
Locale = Literal[
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr",
    "fr-CA", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt",
    "pt-BR", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
]  # fmt: skip
RedirectUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class CreateCheckoutSessionBody(UserBody):
    """`success_url` may hold `{CHECKOUT_SESSION_ID}`; without it `session_id` is added to the
    query.
    """

    items: Cart
    customer_email: EmailAddress | None = None
    success_url: RedirectUrl | None = None
    cancel_url: RedirectUrl | None = None
    currency: Currency = "usd"
    locale: Annotated[
        Locale | None,
        Field(
            description="The page's language, as Stripe names it; `auto`: the browser's.",
            exclude_if=unset,
        ),
    ] = None
    metadata: Metadata | None = None

    def to_purchase(self) -> Purchase:
        return Purchase(
            user_id=self.user_id,
            items=cart_items(self.items),
            currency=self.currency,
            metadata=self.metadata or {},
        )


class CreateCheckoutSessionReply(ReplyBody):
    session_id: str
    checkout_url: str | None
    payment_id: str
    amount_cents: int
    currency: str

    @classmethod
    def of(cls, created: Opened[SessionSnapshot]) -> "CreateCheckoutSessionReply":
        return cls(
            session_id=created.at_stripe.stripe_checkout_session_id,
            checkout_url=created.at_stripe.url,
            payment_id=created.payment.payment_id,
            amount_cents=created.payment.amount,
            currency=created.payment.currency,
        )


class CheckoutSessionReply(ReplyBody):
    session_id: str
    payment_id: str
    status: Literal["open", "complete", "expired"]
    payment_status: Literal["paid", "unpaid", "no_payment_required"]
    amount_total: int
    currency: str
    order_id: str | None

    @classmethod
    def of(cls, payment: Payment, session: SessionSnapshot) -> "CheckoutSessionReply":
        return cls.model_validate(
            {
                "session_id": session.stripe_checkout_session_id,
                "payment_id": payment.payment_id,
                "status": session.status,
                "payment_status": session.payment_status,
                "amount_total": session.amount_total,
                "currency": session.currency,
                "order_id": payment.order_id,
            }
        )
