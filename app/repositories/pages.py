"""Pages of a user's history, newest first, by position rather than by offset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from app.repositories.database import Document

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


def page_filter(query: Document, after: PagePosition | None) -> Document:
    if after is None:
        return query
    older = {"created_at": {"$lt": after.created_at}}
    same_time = {"created_at": after.created_at, "_id": {"$lt": after.record_id}}
    return {**query, "$or": [older, same_time]}


def page_of(found: Sequence[Record], limit: int) -> Page[Record]:
    """``found`` has one record more than ``limit`` when there is a next page."""
    return Page(found[:limit], has_more=len(found) > limit)
