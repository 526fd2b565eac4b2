"""Credits in the auth service's user documents, changed only together with a mark."""

import math
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from bson import Binary, Decimal128, ObjectId
from pymongo import ReturnDocument

from app.domain.credits import Debit, DebitOutcome, MarkKind
from app.domain.user_ids import UserIdType, is_object_id, is_uuid
from app.errors import UserNotFound
from app.repositories.database import (
    AUTH_DATABASE,
    Collection,
    Commands,
    Document,
    unavailable,
)

MARKS_FIELD: Final = "payment_marks"
FENCE_FIELD: Final = "payment_marks_removed_until"

_TRIES: Final = 3
"""A balance that rises between an update and the look at why it failed is worth another try."""


class UserRepository:
    def __init__(
        self,
        collection: Collection,
        commands: Commands,
        *,
        credits_field: str,
        user_id_type: UserIdType = UserIdType.AUTO,
    ) -> None:
        self._collection = collection
        self._commands = commands
        self._credits_field = credits_field
        self._user_id_type = user_id_type

    async def get_credits(self, user_id: str) -> int:
        """The balance. Raises UserNotFound."""
        document = await self._find(user_id)
        if document is None:
            raise UserNotFound("There is no such user.")
        return self._balance(document)

    async def take_credits(
        self, user_id: str, *, payment_id: str, credits: int, as_of: datetime, now: datetime
    ) -> Debit:
        """Takes the credits once for this payment, unless it was given up before.

        ``as_of`` is when the caller last read the payment. Raises UserNotFound.
        """
        mark, document, is_new = await self._change(
            user_id, payment_id, MarkKind.DEBIT, -credits, as_of=as_of, now=now
        )
        if mark is MarkKind.DEBIT:
            outcome = DebitOutcome.TAKEN if is_new else DebitOutcome.TAKEN_BEFORE
        else:
            outcome = DebitOutcome.INSUFFICIENT if mark is None else DebitOutcome.CANCELED
        return Debit(outcome, self._balance(document))

    async def cancel_debit(
        self, user_id: str, *, payment_id: str, as_of: datetime, now: datetime
    ) -> Debit:
        """Leaves the mark that no debit of this payment passes, unless the debit came first.

        Raises UserNotFound: there is no account to take credits from.
        """
        mark, document, _ = await self._change(
            user_id, payment_id, MarkKind.CANCEL, 0, as_of=as_of, now=now
        )
        taken = mark is MarkKind.DEBIT
        outcome = DebitOutcome.TAKEN_BEFORE if taken else DebitOutcome.CANCELED
        return Debit(outcome, self._balance(document))

    async def give_back_credits(
        self, user_id: str, *, refund_id: str, credits: int, as_of: datetime, now: datetime
    ) -> None:
        """Gives the credits back once for this refund. Raises UserNotFound."""
        await self._change(user_id, refund_id, MarkKind.REFUND, credits, as_of=as_of, now=now)

    async def remove_marks(
        self, user_id: str, keys: frozenset[str], *, removed_until: datetime
    ) -> None:
        """Whoever last read a payment until ``removed_until`` can change nothing more.

        So a worker that was stalled for longer than marks are kept cannot do its change again.
        """
        document = await self._find(user_id)
        # Named whole, not by a condition on their key: not every server that speaks MongoDB's
        # protocol takes one in $pull, and FerretDB answers that it pulled when it did not. A mark
        # never changes once it is made.
        marks = [mark for mark in (document or {}).get(MARKS_FIELD, ()) if mark["key"] in keys]
        if not marks:
            return
        async with self._commands:
            await self._collection.update_one(
                {"_id": self._key(user_id)},
                {
                    "$pullAll": {MARKS_FIELD: marks},
                    "$max": {FENCE_FIELD: removed_until},
                },
            )

    async def _change(
        self,
        user_id: str,
        key: str,
        kind: MarkKind,
        change: int,
        *,
        as_of: datetime,
        now: datetime,
    ) -> tuple[MarkKind | None, Document, bool]:
        """One update of balance and mark, or what stands in its way: the kind of the mark that is
        there, None when the balance is too small; the user's document; whether the mark is ours.

        Raises UserNotFound, and DatabaseUnavailable when what was read contradicts the update: only
        a mark that was seen says that something happened, or that it did not.
        """
        query: Document = {"_id": self._key(user_id), **_guard(key, as_of)}
        update: Document = {
            "$push": {
                MARKS_FIELD: {"key": key, "kind": kind.value, "credits": abs(change), "at": now}
            }
        }
        if change:
            update["$inc"] = {self._credits_field: change}
        if change < 0:
            query[self._credits_field] = {"$gte": -change}
        for _ in range(_TRIES):
            async with self._commands:
                after: Document | None = await self._collection.find_one_and_update(
                    query,
                    update,
                    projection={self._credits_field: 1},
                    return_document=ReturnDocument.AFTER,
                )
            if after is not None:
                return kind, after, True
            document = await self._find(user_id)
            if document is None:
                raise UserNotFound("There is no such user.")
            for mark in document.get(MARKS_FIELD, ()):
                if mark["key"] == key:
                    return MarkKind(mark["kind"]), document, False
            if change < 0 and self._balance(document) < -change:
                return None, document, False
        raise unavailable(AUTH_DATABASE)

    async def _find(self, user_id: str) -> Document | None:
        async with self._commands:
            return await self._collection.find_one(
                {"_id": self._key(user_id)}, projection={self._credits_field: 1, MARKS_FIELD: 1}
            )

    def _key(self, user_id: str) -> str | ObjectId | Binary:
        """The user's ``_id``. An id that is not of the configured type belongs to a payment from
        before it was configured, and is text.
        """
        match self._user_id_type:
            case UserIdType.AUTO | UserIdType.OBJECTID if is_object_id(user_id):
                return ObjectId(user_id)
            case UserIdType.UUID if is_uuid(user_id):
                # Explicitly of subtype 4, whatever uuidRepresentation the URL says.
                return Binary.from_uuid(UUID(user_id))
            case _:
                return user_id

    def _balance(self, document: Document) -> int:
        """A missing or unreadable balance is no credit at all."""
        value = document.get(self._credits_field)
        if isinstance(value, Decimal128):
            value = value.to_decimal()
        # To Python true is a number, to MongoDB it is not; infinity would never be used up.
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return 0
        return int(value) if math.isfinite(value) else 0


def _guard(key: str, as_of: datetime) -> Document:
    """Holds back a change that was made before, or whose maker has not looked since marks were
    removed. $nor rather than $ne on the path, which FerretDB gets wrong in arrays: there the guard
    would let every change through, without an error.
    """
    return {"$nor": [{f"{MARKS_FIELD}.key": key}, {FENCE_FIELD: {"$gte": as_of}}]}
