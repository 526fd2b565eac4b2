"""What the instances on one database share: leases that one holds at a time, the reconciler's place
in Stripe's event list, and the name of their deployment.
"""

import contextlib
from datetime import UTC, datetime
from typing import Final

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.domain.ids import new_id
from app.repositories.database import Collection, Commands

DEPLOYMENT: Final = "deployment"


class LockRepository:
    def __init__(self, collection: Collection, commands: Commands) -> None:
        self._collection = collection
        self._commands = commands

    async def acquire(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Takes or prolongs the lease; False while another owner holds it."""
        async with self._commands:
            result = await self._collection.update_one(
                {"_id": name, "$or": [{"until": {"$lte": now}}, {"owner": owner}]},
                {"$set": {"owner": owner, "until": until}},
            )
            if result.matched_count:
                return True
            try:
                await self._collection.insert_one({"_id": name, "owner": owner, "until": until})
            except DuplicateKeyError:
                return False
        return True

    async def release(self, name: str, *, owner: str) -> None:
        async with self._commands:
            await self._collection.delete_one({"_id": name, "owner": owner})

    async def find_cursor(self, name: str) -> datetime | None:
        async with self._commands:
            document = await self._collection.find_one({"_id": name})
        return document["at"].astimezone(UTC) if document else None

    async def move_cursor(self, name: str, at: datetime) -> None:
        """Forward only."""
        async with self._commands:
            result = await self._collection.update_one(
                {"_id": name, "at": {"$lt": at}}, {"$set": {"at": at}}
            )
            if result.matched_count:
                return
            try:
                await self._collection.insert_one({"_id": name, "at": at})
            except DuplicateKeyError:
                return

    async def deployment_name(self) -> str:
        """A name of this database's own, made by whichever instance asks first."""
        proposed = new_id("dep_")
        async with self._commands:
            while True:
                # Two upserts at once may both try to insert: the second one finds the first's.
                with contextlib.suppress(DuplicateKeyError):
                    document = await self._collection.find_one_and_update(
                        {"_id": DEPLOYMENT},
                        {"$setOnInsert": {"name": proposed}},
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                    name: str = document["name"]
                    return name
