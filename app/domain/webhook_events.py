"""A webhook event in the inbox."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventStatus(StrEnum):
    """Seen and processed are two facts: only the last two are the end of an event."""

    PROCESSING = "processing"
    FAILED = "failed"
    PROCESSED = "processed"
    IGNORED = "ignored"

    @property
    def is_final(self) -> bool:
        return self in (EventStatus.PROCESSED, EventStatus.IGNORED)


class EventResult(StrEnum):
    """What the sender is told. Deferred: stored, and another worker or the reconciler has it."""

    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """``payload`` is the body that Stripe signed, less its client secrets. Times are ours but for
    ``created_at``. ``last_error`` is an error's class, or why the event cannot be read.
    """

    stripe_event_id: str
    type: str
    payload: str
    status: EventStatus
    created_at: datetime
    received_at: datetime
    attempts: int = 0
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    processed_at: datetime | None = None
