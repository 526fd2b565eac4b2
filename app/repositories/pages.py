"""Queries for pages of a user's history."""

from collections.abc import Sequence
from typing import TypeVar

from app.domain.pages import Page, PagePosition
from app.repositories.database import Document

Record = TypeVar("Record")


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
