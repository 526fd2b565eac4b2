"""What a caller wants to buy, checked and priced here: the sum is never taken from the caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.domain.cart import CartItem, credits_for_amount, total_amount, total_credits
from app.domain.money import (
    CURRENCIES,
    require_at_most,
    require_chargeable,
    require_supported_currency,
)
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    PaymentServiceError,
    TotalMismatch,
    ValidationFailed,
)
from app.gateways.payments import StripeRefused

RESERVED_METADATA_KEYS: Final = frozenset(
    {"payment_id", "refund_id", "user_id", "reason", "deployment"}
)
METADATA_KEYS_LIMIT: Final = 50 - 4
METADATA_KEY_LENGTH: Final = 40
METADATA_VALUE_LENGTH: Final = 500
"""Stripe's limits, less the keys that are ours, of which no object carries more than four:
https://docs.stripe.com/metadata
"""

_FIELDS_FROM_CALLERS: Final = {
    "amount": "amount",
    "currency": "currency",
    "customer_email": "customer_email",
    "description": "description",
    "line_items": "items",
    "locale": "locale",
    "metadata": "metadata",
    "receipt_email": "receipt_email",
    "success_url": "success_url",
    "cancel_url": "cancel_url",
}
"""Stripe's parameters that hold what the caller sent, and what the caller calls them."""

CREDITS_LIMIT: Final = 100_000_000

_FREE_CART: Final = (
    "This cart costs nothing, so there is nothing to pay; the books can be given away."
)


@dataclass(frozen=True, slots=True)
class Purchase:
    """Either ``items`` or ``amount`` (minor units). ``total_credits`` is a check, not a price."""

    user_id: str
    items: tuple[CartItem, ...] | None = None
    amount: int | None = None
    currency: str = "usd"
    total_credits: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pricing:
    """The rules: what one credit is worth and how much may be charged at most in each currency, in
    minor units.
    """

    credit_value: int
    max_amounts: Mapping[str, int]

    def card_amount(self, purchase: Purchase) -> int:
        """What to charge. Raises an Unprocessable for whatever Stripe would refuse."""
        _require_metadata(purchase.metadata)
        amount, currency = _amount(purchase), purchase.currency
        require_supported_currency(currency)
        if purchase.items is not None and amount == 0:
            raise AmountTooSmall(_FREE_CART, minimum=CURRENCIES[currency].minimum)
        # Stripe's page gets each price as an amount of its own.
        prices = {
            f"items.{place}.price_cents": item.price_cents
            for place, item in enumerate(purchase.items or ())
        }
        require_chargeable(amount, currency, maximum=self.max_amounts[currency], prices=prices)
        return amount

    def credits_price(self, purchase: Purchase) -> tuple[int, int]:
        """(amount in minor units, credits to take); a credits payment costs at least one credit."""
        _require_metadata(purchase.metadata)
        amount = _amount(purchase)
        if purchase.items is None:
            credits = credits_for_amount(amount, credit_value=self.credit_value)
        else:
            credits = total_credits(purchase.items)
        if purchase.total_credits is not None and purchase.total_credits != credits:
            raise TotalMismatch(
                f"The request says {purchase.total_credits} credits, the price is {credits}.",
                expected=credits,
            )
        if credits < 1:
            is_free = purchase.items is not None and amount == 0
            raise AmountTooSmall(
                _FREE_CART if is_free else "A payment with credits costs at least one credit.",
                minimum=1,
            )
        if credits > CREDITS_LIMIT:
            raise AmountTooLarge(
                f"The price is {credits} credits; one payment takes at most {CREDITS_LIMIT}.",
                maximum=CREDITS_LIMIT,
            )
        require_at_most(self.max_amounts[purchase.currency], amount, purchase.currency)
        return amount, credits


def refusal_of(error: AmountTooSmall | AmountTooLarge | StripeRefused) -> PaymentServiceError:
    """What the caller is told when Stripe refuses to make what was asked for."""
    if not isinstance(error, StripeRefused) or error.param is None:
        return error
    field = error.param.partition("[")[0]
    if field not in _FIELDS_FROM_CALLERS:
        return error
    return ValidationFailed.of_field(
        _FIELDS_FROM_CALLERS[field], "Stripe does not accept this value"
    )


def _amount(purchase: Purchase) -> int:
    if purchase.items is not None:
        return total_amount(purchase.items)
    if purchase.amount is None:
        raise ValidationFailed.of_field("items", "Send either items or amount")
    return purchase.amount


def _require_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > METADATA_KEYS_LIMIT:
        raise ValidationFailed.of_field(
            "metadata", f"This may have at most {METADATA_KEYS_LIMIT} keys"
        )
    for key, value in metadata.items():
        if key in RESERVED_METADATA_KEYS:
            raise ValidationFailed.of_field("metadata", f"The key {key!r} is set by this service")
        if not 0 < len(key) <= METADATA_KEY_LENGTH or "[" in key or "]" in key:
            raise ValidationFailed.of_field(
                "metadata",
                f"A key has 1 to {METADATA_KEY_LENGTH} characters and no square brackets",
            )
        if not 0 < len(value) <= METADATA_VALUE_LENGTH:
            raise ValidationFailed.of_field(
                "metadata", f"A value has 1 to {METADATA_VALUE_LENGTH} characters"
            )
