"""Problems that several routes share, for the OpenAPI document."""

from typing import Final

from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    Forbidden,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidJson,
    PaymentServiceError,
    StripeFailed,
    StripeNotConfigured,
    StripeTimeout,
    Unauthenticated,
    ValidationFailed,
)

GUARDED: Final[tuple[type[PaymentServiceError], ...]] = (
    Unauthenticated,
    Forbidden,
    ValidationFailed,
    DatabaseUnavailable,
)
POSTED: Final[tuple[type[PaymentServiceError], ...]] = (
    *GUARDED,
    InvalidJson,
    BodyTooLarge,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
)
ASKS_STRIPE: Final[tuple[type[PaymentServiceError], ...]] = (
    StripeFailed,
    StripeNotConfigured,
    StripeTimeout,
)
