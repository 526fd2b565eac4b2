"""When the reconciler looks at a payment again."""

from datetime import datetime, timedelta
from typing import Final

from app.domain.payments import Payment, Work

MARK_RETENTION: Final = timedelta(minutes=15)
"""How long a mark stays in the user's document: far longer than any request can run."""

_BACKOFF_FACTOR: Final = 4
_LONGEST_WAIT: Final = timedelta(hours=6)
_COUNTED_LOOKS: Final = 10


def next_look_at(
    payment: Payment, *, now: datetime, after: timedelta, abandon_after: timedelta
) -> datetime | None:
    """When the reconciler should look at the payment again; None when it is at rest.

    ``after`` is how old unfinished work must be; each look without a change waits four times as
    long, six hours at most, and never past the moment when the payment counts as abandoned.
    """
    work = payment.unfinished
    if not work:
        return None
    looks = min(payment.reconcile_attempts, _COUNTED_LOOKS)
    wait = min(after * int(_BACKOFF_FACTOR**looks), _LONGEST_WAIT)
    if work == {Work.MARKS}:
        return max(payment.updated_at + MARK_RETENTION, now + wait if looks else now)
    abandoned_at = payment.created_at + abandon_after
    if now < abandoned_at:
        return min(now + wait, abandoned_at)
    return now + wait
