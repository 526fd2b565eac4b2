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


def of_user(spellings: Sequence[str]) -> Document:
    """What belongs to a user whose id is stored in one of these spellings."""
    return {"user_id": spellings[0] if len(spellings) == 1 else {"$in": list(spellings)}}


def page_filter(query: Document, after: PagePosition | None) -> Document:
    if after is None:
        return query
    # The first bound says nothing that the rest does not, but a single index scan can begin at it:
    # a page far down costs what the first one costs.
    not_newer = {"created_at": {"$lte": after.created_at}}
    older = {"created_at": {"$lt": after.created_at}}
    return {**query, **not_newer, "$or": [older, {"_id": {"$lt": after.record_id}}]}


def page_of(found: Sequence[Record], limit: int) -> Page[Record]:
    """``found`` has one record more than ``limit`` when there is a next page."""
    return Page(found[:limit], has_more=len(found) > limit)
