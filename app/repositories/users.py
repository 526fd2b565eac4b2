"""Credits in the auth service's user documents, changed only together with a mark."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from bson import ObjectId
from pymongo import ReturnDocument

from app.domain.credits import Debit, DebitOutcome, MarkKind
from app.errors import UserNotFound
from app.repositories.database import (
    AUTH_COMMANDS_AT_ONCE,
    AUTH_DATABASE,
    Collection,
    DatabaseErrors,
    Document,
    unavailable,
)

MARKS_FIELD: Final = "payment_marks"


class UserRepository:
    def __init__(
        self, collection: Collection, *, credits_field: str, timeout_seconds: float = 5.0
    ) -> None:
        """``timeout_seconds``: how long a command may wait for those before it."""
        self._collection = collection
        self._credits_field = credits_field
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(AUTH_COMMANDS_AT_ONCE)
        self._errors = DatabaseErrors(AUTH_DATABASE)

    async def get_credits(self, user_id: str) -> int:
        """The balance. Raises UserNotFound."""
        document = await self._find(user_id)
        if document is None:
            raise UserNotFound("There is no such user.")
        return self._balance(document)

    async def take_credits(
        self, user_id: str, *, payment_id: str, credits: int, now: datetime
    ) -> Debit:
        """Takes the credits once for this payment, unless it was given up before."""
        after = await self._update(
            {
                "_id": _key(user_id),
                self._credits_field: {"$gte": credits},
                **_without_mark(payment_id),
            },
            payment_id,
            MarkKind.DEBIT,
            -credits,
            now,
        )
        if after is not None:
            return Debit(DebitOutcome.TAKEN, self._balance(after))
        return await self._marked(user_id, payment_id) or Debit(
            DebitOutcome.INSUFFICIENT, await self.get_credits(user_id)
        )

    async def cancel_debit(self, user_id: str, *, payment_id: str, now: datetime) -> Debit:
        """Leaves the mark that no debit of this payment passes, unless the debit came first."""
        after = await self._update(
            {"_id": _key(user_id), **_without_mark(payment_id)},
            payment_id,
            MarkKind.CANCEL,
            0,
            now,
        )
        if after is not None:
            return Debit(DebitOutcome.CANCELED, self._balance(after))
        # Neither updated nor marked: there is no such user, and so nothing to take credits from.
        return await self._marked(user_id, payment_id) or Debit(DebitOutcome.USER_NOT_FOUND)

    async def give_back_credits(
        self, user_id: str, *, refund_id: str, credits: int, now: datetime
    ) -> bool:
        """Gives the credits back once for this refund; False when there is no such user."""
        after = await self._update(
            {"_id": _key(user_id), **_without_mark(refund_id)},
            refund_id,
            MarkKind.REFUND,
            credits,
            now,
        )
        return after is not None or await self._marked(user_id, refund_id) is not None

    async def remove_marks(self, user_id: str, keys: frozenset[str]) -> None:
        document = await self._find(user_id)
        # Named whole, not by a condition on their key: not every server that speaks MongoDB's
        # protocol takes one in $pull, and FerretDB answers that it pulled when it did not. A mark
        # never changes once it is made.
        marks = [mark for mark in (document or {}).get(MARKS_FIELD, ()) if mark["key"] in keys]
        if not marks:
            return
        async with self._slot():
            await self._collection.update_one(
                {"_id": _key(user_id)}, {"$pullAll": {MARKS_FIELD: marks}}
            )

    async def _update(
        self, query: Document, key: str, kind: MarkKind, change: int, now: datetime
    ) -> Document | None:
        mark = {"key": key, "kind": kind.value, "credits": abs(change), "at": now}
        update: Document = {"$push": {MARKS_FIELD: mark}}
        if change:
            update["$inc"] = {self._credits_field: change}
        async with self._slot():
            document: Document | None = await self._collection.find_one_and_update(
                query,
                update,
                projection={self._credits_field: 1},
                return_document=ReturnDocument.AFTER,
            )
        return document

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """For one command. Raises DatabaseUnavailable when none is free in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise unavailable(AUTH_DATABASE) from error
        try:
            with self._errors:
                yield
        finally:
            self._slots.release()

    async def _marked(self, user_id: str, key: str) -> Debit | None:
        """What the mark says, if there is one."""
        document = await self._find(user_id)
        if document is None:
            return None
        for mark in document.get(MARKS_FIELD, ()):
            if mark["key"] == key:
                canceled = mark["kind"] == MarkKind.CANCEL.value
                outcome = DebitOutcome.CANCELED if canceled else DebitOutcome.TAKEN_BEFORE
                return Debit(outcome, self._balance(document))
        return None

    async def _find(self, user_id: str) -> Document | None:
        async with self._slot():
            return await self._collection.find_one(
                {"_id": _key(user_id)}, projection={self._credits_field: 1, MARKS_FIELD: 1}
            )

    def _balance(self, document: Document) -> int:
        """A missing or unreadable balance is no credit at all."""
        value = document.get(self._credits_field)
        # To Python true is a number, to MongoDB it is not; infinity would never be used up.
        if isinstance(value, bool) or not isinstance(value, int | float):
            return 0
        return int(value) if math.isfinite(value) else 0


def _without_mark(key: str) -> Document:
    """The guard of every change of a balance. The same as ``$ne`` on the path, which FerretDB gets
    wrong in arrays: there the guard would hold nobody back, and nobody would be told.
    """
    return {"$nor": [{f"{MARKS_FIELD}.key": key}]}


def _key(user_id: str) -> str | ObjectId:
    """The auth service's ids are ObjectIds; a user id that looks like one is one."""
    return ObjectId(user_id) if ObjectId.is_valid(user_id) else user_id
