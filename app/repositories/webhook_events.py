"""The inbox of webhook events: stored under Stripe's id, claimed with a lease, finished once."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.domain.webhook_events import EventStatus, WebhookEvent
from app.repositories.database import Collection, Commands, Document
from app.repositories.documents import event_from_document, event_to_document


class WebhookEventRepository:
    """``next_attempt_at`` is the end of the lease while an event is being processed, the time of
    the next try after a failure, and absent once the event is final.
    """

    def __init__(self, collection: Collection, commands: Commands, *, retention: timedelta) -> None:
        self._collection = collection
        self._retention = retention
        self._commands = commands

    async def add(self, event: WebhookEvent) -> bool:
        """Stores the event, claimed by the caller; False when it was stored before."""
        async with self._commands:
            try:
                await self._collection.insert_one(event_to_document(event))
            except DuplicateKeyError:
                return False
        return True

    async def claim(
        self, stripe_event_id: str, *, now: datetime, lease_until: datetime, only_due: bool
    ) -> WebhookEvent | None:
        """Takes an event that is not final and that no worker holds; None when there is none.

        A failed event may be taken before its next try is due, unless ``only_due``.
        """
        due: Document = {"next_attempt_at": {"$lte": now}}
        free = due if only_due else {"$or": [{"status": EventStatus.FAILED.value}, due]}
        async with self._commands:
            document = await self._collection.find_one_and_update(
                {"_id": stripe_event_id, **free},
                {
                    "$set": {
                        "status": EventStatus.PROCESSING.value,
                        "next_attempt_at": lease_until,
                    },
                    "$inc": {"attempts": 1},
                },
                return_document=ReturnDocument.AFTER,
            )
        return event_from_document(document) if document else None

    async def find(self, stripe_event_id: str) -> WebhookEvent | None:
        async with self._commands:
            document = await self._collection.find_one({"_id": stripe_event_id})
        return event_from_document(document) if document else None

    async def mark_finished(
        self, stripe_event_id: str, status: EventStatus, *, now: datetime
    ) -> None:
        """``status`` is processed or ignored; the event may be forgotten after the retention."""
        async with self._commands:
            await self._collection.update_one(
                {"_id": stripe_event_id},
                {
                    "$set": {
                        "status": status.value,
                        "processed_at": now,
                        "expires_at": now + self._retention,
                    },
                    "$unset": {"next_attempt_at": "", "last_error": ""},
                },
            )

    async def mark_failed(
        self, stripe_event_id: str, *, error: str, next_attempt_at: datetime
    ) -> None:
        """Leaves a final event alone: another worker may have finished it meanwhile."""
        async with self._commands:
            await self._collection.update_one(
                {"_id": stripe_event_id, "status": EventStatus.PROCESSING.value},
                {
                    "$set": {
                        "status": EventStatus.FAILED.value,
                        "last_error": error,
                        "next_attempt_at": next_attempt_at,
                    }
                },
            )

    async def list_due(self, now: datetime, *, limit: int) -> list[str]:
        """Ids of events to try again: failed ones, and ones whose worker died."""
        async with self._commands:
            cursor = self._collection.find(
                {"next_attempt_at": {"$lte": now}}, projection={"_id": 1}
            )
            found = await cursor.sort([("next_attempt_at", 1)]).limit(limit).to_list(limit)
        return [document["_id"] for document in found]

    async def list_unknown(self, stripe_event_ids: Sequence[str]) -> list[str]:
        """Those of the ids that are not in the inbox, in the order given."""
        async with self._commands:
            cursor = self._collection.find(
                {"_id": {"$in": list(stripe_event_ids)}}, projection={"_id": 1}
            )
            known = {document["_id"] for document in await cursor.to_list(len(stripe_event_ids))}
        return [event_id for event_id in stripe_event_ids if event_id not in known]
