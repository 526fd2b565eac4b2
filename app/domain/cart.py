"""What is bought."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CartItem:
    """``price_cents`` (in minor units) and ``credits`` are for one piece."""

    book_id: str
    quantity: int
    price_cents: int
    credits: int
    title: str | None = None


def total_amount(items: Iterable[CartItem]) -> int:
    """The price of the cart in the currency's smallest unit."""
    return sum(item.price_cents * item.quantity for item in items)


def total_credits(items: Iterable[CartItem]) -> int:
    return sum(item.credits * item.quantity for item in items)


def credits_for_amount(amount: int, *, credit_value: int) -> int:
    """How many credits pay for ``amount``, rounded up; both in minor units."""
    return -(-amount // credit_value)
