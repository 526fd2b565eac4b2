"""Marks in the user's document: what tells a finder whether credits moved.

A mark and the balance change are one atomic update, so a mark says that its change happened, and
the absence of a mark says that it did not. The mark of a payment is left either by the debit or by
the cancellation; whichever comes first decides.
"""

from dataclasses import dataclass
from enum import StrEnum


class MarkKind(StrEnum):
    DEBIT = "debit"
    CANCEL = "cancel"
    REFUND = "refund"


class DebitOutcome(StrEnum):
    TAKEN = "taken"
    TAKEN_BEFORE = "taken_before"
    CANCELED = "canceled"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Debit:
    """``balance`` is what the user has after the debit, in credits."""

    outcome: DebitOutcome
    balance: int = 0

    @property
    def is_taken(self) -> bool:
        return self.outcome in (DebitOutcome.TAKEN, DebitOutcome.TAKEN_BEFORE)
