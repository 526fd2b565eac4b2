"""What several bodies share."""

import re
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from app.domain.cart import CartItem
from app.domain.money import LARGEST_AMOUNT
from app.domain.user_ids import UserIdType
from app.errors import ValidationFailed
from app.services.purchases import Purchase

UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(
        description="The auth database's `_id` as text. The spellings of an ObjectId or a UUID are "
        "one id. Percent-encode it in a path, a slash too."
    ),
]
AnyPaymentId = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Currency = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, min_length=3, max_length=16),
    Field(description="Three-letter ISO code, as Stripe lists them."),
]
AmountCents = Annotated[
    int, Field(ge=0, description="In the currency's smallest unit: cents for usd, yen for jpy.")
]
# Lengths are checked with the other limits of Stripe's. A pattern also refuses a lone surrogate,
# which pydantic lets through in a plain str and no database takes.
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
MetadataValue = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(description="At most 46 keys of 40 characters, values of 500; copied to Stripe."),
]


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


def unset(value: object) -> bool:
    """For ``exclude_if`` of a field that is newer than requests that may still be repeated: one
    that was sent without it keeps its fingerprint.
    """
    return value is None


class RequestBody(BaseModel):
    """Unknown fields are ignored, wrong types are refused; numbers are not read from strings.

    What people write (a title, a reason, an e-mail address) is trimmed; ids, tokens and metadata
    are taken as they are.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class ReplyBody(BaseModel):
    model_config = ConfigDict(frozen=True)


class CartItemBody(RequestBody):
    book_id: Annotated[
        str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")
    ]
    quantity: Annotated[int, Field(ge=1, le=1000)] = 1
    price_cents: Annotated[
        int,
        Field(
            ge=0,
            le=LARGEST_AMOUNT,
            description="For one piece; the bounds of the currency are checked afterwards.",
        ),
    ]
    credits: Annotated[int, Field(ge=0, le=100_000, description="For one piece.")] = 1
    title: (
        Annotated[
            str,
            StringConstraints(
                strip_whitespace=True, min_length=1, max_length=250, pattern=r"^[^\x00]+$"
            ),
        ]
        | None
    ) = None

    def to_domain(self) -> CartItem:
        return CartItem(
            book_id=self.book_id,
            quantity=self.quantity,
            price_cents=self.price_cents,
            credits=self.credits,
            title=self.title,
        )


class CartItemReply(ReplyBody):
    book_id: str
    quantity: int
    price_cents: int
    credits: int
    title: str | None

    @classmethod
    def of(cls, item: CartItem) -> "CartItemReply":
        return cls(
            book_id=item.book_id,
            quantity=item.quantity,
            price_cents=item.price_cents,
            credits=item.credits,
            title=item.title,
        )


Cart = Annotated[list[CartItemBody], Field(min_length=1, max_length=100)]


def cart_items(cart: list[CartItemBody]) -> tuple[CartItem, ...]:
    return tuple(item.to_domain() for item in cart)


class UserBody(RequestBody):
    user_id: UserId

    def of_canonical_user(self, user_ids: UserIdType) -> Self:
        """Before anything else is done with it, an Idempotency-Key's fingerprint too. Raises
        ValidationFailed.
        """
        return self.model_copy(update={"user_id": user_ids.canonical(self.user_id)})


class PurchaseBody(UserBody):
    """Exactly one of `items` and `amount`."""

    items: Cart | None = None
    amount: AmountCents | None = None
    metadata: Metadata | None = None

    def to_purchase(self) -> Purchase:
        """Raises ValidationFailed."""
        if (self.items is None) == (self.amount is None):
            raise ValidationFailed.of_field("items", "Send exactly one of items and amount")
        return Purchase(
            user_id=self.user_id,
            items=None if self.items is None else cart_items(self.items),
            amount=self.amount,
            metadata=self.metadata or {},
        )
