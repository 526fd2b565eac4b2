"""Pages of a history, newest first, by position rather than by offset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class PagePosition:
    """The last record of the page before."""

    created_at: datetime
    record_id: str


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    records: Sequence[Record]
    has_more: bool
