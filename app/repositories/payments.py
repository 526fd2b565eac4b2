"""Payments, each saved only over the revision that the writer has read."""

from dataclasses import replace
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from app.domain.pages import Page, PagePosition
from app.domain.payments import Payment, PaymentStatus
from app.errors import PaymentNotFound
from app.repositories.database import Collection, Commands, Document
from app.repositories.documents import payment_from_document, payment_to_document
from app.repositories.pages import of_user, page_filter, page_of


class PaymentRepository:
    def __init__(self, collection: Collection, commands: Commands) -> None:
        self._collection = collection
        self._commands = commands

    async def add(self, payment: Payment) -> Payment:
        """Inserts the payment, or returns the one that an earlier try of the request inserted."""
        try:
            async with self._commands:
                await self._collection.insert_one(payment_to_document(payment))
        except DuplicateKeyError:
            return await self.get(payment.payment_id)
        return payment

    async def save(self, before: Payment, after: Payment) -> Payment | None:
        """Writes what changed from ``before`` to ``after``; None when someone else was faster.

        The guard and the write are one operation: the update matches only ``before``'s revision.
        """
        after = replace(after, revision=before.revision + 1)
        old, new = payment_to_document(before), payment_to_document(after)
        changed = {name: value for name, value in new.items() if old.get(name) != value}
        removed = {name: "" for name in old if name not in new}
        update: Document = {"$set": changed} | ({"$unset": removed} if removed else {})
        async with self._commands:
            result = await self._collection.update_one(
                {"_id": before.payment_id, "revision": before.revision}, update
            )
        return after if result.matched_count else None

    async def get(self, payment_id: str) -> Payment:
        """Raises PaymentNotFound."""
        payment = await self.find(payment_id)
        if payment is None:
            raise PaymentNotFound("There is no such payment.")
        return payment

    async def find(self, payment_id: str) -> Payment | None:
        return await self._find_one({"_id": payment_id})

    async def find_by_payment_intent(self, stripe_payment_intent_id: str) -> Payment | None:
        return await self._find_one({"stripe_payment_intent_id": stripe_payment_intent_id})

    async def find_by_checkout_session(self, stripe_checkout_session_id: str) -> Payment | None:
        return await self._find_one({"stripe_checkout_session_id": stripe_checkout_session_id})

    async def find_first_creation(self) -> datetime | None:
        """When the first payment was made, as far as ids tell: they begin with the time."""
        async with self._commands:
            found: Document | None = await self._collection.find_one(
                {}, sort=[("_id", 1)], projection={"created_at": 1}
            )
        return found["created_at"] if found else None

    async def list_by_user(
        self,
        *spellings: str,
        limit: int,
        after: PagePosition | None = None,
        status: PaymentStatus | None = None,
    ) -> Page[Payment]:
        """Newest first. ``spellings`` are those of one user's id."""
        query = of_user(spellings)
        if status is not None:
            query["status"] = status.value
        async with self._commands:
            cursor = self._collection.find(page_filter(query, after))
            found = (
                await cursor.sort([("created_at", -1), ("_id", -1)])
                .limit(limit + 1)
                .to_list(limit + 1)
            )
        return page_of([payment_from_document(document) for document in found], limit)

    async def list_due(self, now: datetime, *, limit: int) -> list[str]:
        """Ids of payments with unfinished work that is old enough to be looked at, the oldest
        first.
        """
        async with self._commands:
            cursor = self._collection.find({"reconcile_at": {"$lte": now}}, projection={"_id": 1})
            found = await cursor.sort([("reconcile_at", 1)]).limit(limit).to_list(limit)
        return [document["_id"] for document in found]

    async def postpone_unreadable(self, payment_id: str, *, now: datetime, until: datetime) -> None:
        """Puts off a payment that is due and cannot be saved, because it cannot be read."""
        async with self._commands:
            await self._collection.update_one(
                {"_id": payment_id, "reconcile_at": {"$lte": now}},
                {"$set": {"reconcile_at": until}},
            )

    async def _find_one(self, query: Document) -> Payment | None:
        async with self._commands:
            document = await self._collection.find_one(query)
        return payment_from_document(document) if document else None
