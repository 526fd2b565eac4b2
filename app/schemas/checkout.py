import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

from app.domain.payments import Payment
from app.gateways.payments import SessionSnapshot
from app.schemas.common import Cart, Currency, Metadata, ReplyBody, UserBody, cart_items
from app.services.checkout import CreatedSession
from app.services.purchases import Purchase

_EMAIL_ADDRESS: Final = re.compile(r"{0}+@{0}+\.{0}+".format(r"[^@\s\x00-\x1f\x7f\ud800-\udfff]"))


def _require_email_address(text: str) -> str:
    if not _EMAIL_ADDRESS.fullmatch(text):
        raise ValueError("This is not an e-mail address; write it like name@example.com")
    return text


EmailAddress = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    # Not a pattern: the refusal is shown to the shopper who typed the address.
    AfterValidator(_require_email_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
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
    def of(cls, created: CreatedSession) -> "CreateCheckoutSessionReply":
        return cls(
            session_id=created.session.stripe_checkout_session_id,
            checkout_url=created.session.url,
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
