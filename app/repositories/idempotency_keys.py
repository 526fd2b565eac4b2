"""What was asked under a client's Idempotency-Key, and what it was answered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pymongo.errors import DuplicateKeyError

from app.repositories.database import Collection, Commands, Document

KEY_LIFETIME: Final = timedelta(hours=24)
"""As Stripe's: https://docs.stripe.com/api/idempotent_requests"""


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """``resource_id`` is the id allocated for what the request makes (a payment, refund or
    attempt).

    ``status_code`` and ``body`` are the answer; None while there is none.
    """

    record_id: str
    fingerprint: str
    resource_id: str
    lease_until: datetime
    expires_at: datetime
    status_code: int | None = None
    body: str | None = None


class IdempotencyKeyRepository:
    def __init__(self, collection: Collection, commands: Commands) -> None:
        self._collection = collection
        self._commands = commands

    async def add(self, record: IdempotencyRecord) -> bool:
        """Claims the key; False when it is taken."""
        async with self._commands:
            try:
                await self._collection.insert_one(_to_document(record))
            except DuplicateKeyError:
                return False
        return True

    async def find(self, record_id: str) -> IdempotencyRecord | None:
        async with self._commands:
            document = await self._collection.find_one({"_id": record_id})
        return _from_document(document) if document else None

    async def take_over(
        self, known: IdempotencyRecord, record: IdempotencyRecord
    ) -> IdempotencyRecord | None:
        """Replaces ``known``, unless it was taken over or answered since; None then."""
        query: Document = {"_id": known.record_id, "lease_until": known.lease_until}
        if known.status_code is None:
            query["status_code"] = {"$exists": False}
        async with self._commands:
            result = await self._collection.replace_one(query, _to_document(record))
        return record if result.matched_count else None

    async def store_answer(self, record: IdempotencyRecord, status_code: int, body: str) -> None:
        async with self._commands:
            await self._collection.update_one(
                {"_id": record.record_id, "resource_id": record.resource_id},
                {"$set": {"status_code": status_code, "body": body}},
            )

    async def store_refusal(self, record: IdempotencyRecord, status_code: int, body: str) -> bool:
        """Like an answer, but not when the record was taken over or answered since: False then."""
        async with self._commands:
            result = await self._collection.update_one(
                {
                    "_id": record.record_id,
                    "lease_until": record.lease_until,
                    "status_code": {"$exists": False},
                },
                {"$set": {"status_code": status_code, "body": body}},
            )
        return result.matched_count == 1

    async def release(self, record: IdempotencyRecord, *, now: datetime) -> None:
        """Lets the next request with the key continue at once."""
        async with self._commands:
            await self._collection.update_one(
                {"_id": record.record_id, "lease_until": record.lease_until},
                {"$set": {"lease_until": now}},
            )


def _to_document(record: IdempotencyRecord) -> Document:
    document: Document = {
        "_id": record.record_id,
        "fingerprint": record.fingerprint,
        "resource_id": record.resource_id,
        "lease_until": record.lease_until,
        "expires_at": record.expires_at,
    }
    if record.status_code is not None:
        document |= {"status_code": record.status_code, "body": record.body}
    return document


def _from_document(document: Document) -> IdempotencyRecord:
    return IdempotencyRecord(
        record_id=document["_id"],
        fingerprint=document["fingerprint"],
        resource_id=document["resource_id"],
        lease_until=document["lease_until"],
        expires_at=document["expires_at"],
        status_code=document.get("status_code"),
        body=document.get("body"),
    )
