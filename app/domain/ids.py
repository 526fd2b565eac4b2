"""Identifiers of our own records."""

import secrets
import time
from typing import Final

PAYMENT_PREFIX: Final = "pay_"
ORDER_PREFIX: Final = "ord_"
REFUND_PREFIX: Final = "rfd_"
CONFIRMATION_PREFIX: Final = "att_"
CANCELLATION_PREFIX: Final = "can_"


def new_id(prefix: str) -> str:
    """``prefix`` and 32 hex digits: milliseconds since the epoch, then 80 random bits.

    Ids made later sort later, so that inserts go to the right-hand edge of the ``_id`` index.
    """
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}{milliseconds:012x}{secrets.token_hex(10)}"


def order_id_of(payment_id: str) -> str:
    """The one order id a payment can have; its uniqueness is what makes orders exactly-once."""
    return ORDER_PREFIX + payment_id.removeprefix(PAYMENT_PREFIX)


def refund_id_of_stripe_refund(stripe_refund_id: str) -> str:
    """Our id for a refund made elsewhere; taking it over twice is still one refund."""
    return REFUND_PREFIX + stripe_refund_id
