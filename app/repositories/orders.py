"""Orders: projections of paid payments, one each."""

from pymongo.errors import DuplicateKeyError

from app.domain.orders import Order
from app.domain.pages import Page, PagePosition
from app.repositories.database import Collection, Commands
from app.repositories.documents import order_from_document, order_to_document
from app.repositories.pages import of_user, page_filter, page_of


class OrderRepository:
    def __init__(self, collection: Collection, commands: Commands) -> None:
        self._collection = collection
        self._commands = commands

    async def put(self, order: Order) -> None:
        """Makes the order, or brings its status up to date; an older revision changes nothing."""
        async with self._commands:
            try:
                await self._collection.insert_one(order_to_document(order))
            except DuplicateKeyError:
                await self._collection.update_one(
                    {"_id": order.order_id, "payment_revision": {"$lt": order.payment_revision}},
                    {
                        "$set": {
                            "status": order.status.value,
                            "payment_revision": order.payment_revision,
                        }
                    },
                )

    async def list_by_user(
        self, *spellings: str, limit: int, after: PagePosition | None = None
    ) -> Page[Order]:
        """Newest first. ``spellings`` are those of one user's id."""
        async with self._commands:
            cursor = self._collection.find(page_filter(of_user(spellings), after))
            found = (
                await cursor.sort([("created_at", -1), ("_id", -1)])
                .limit(limit + 1)
                .to_list(limit + 1)
            )
        return page_of([order_from_document(document) for document in found], limit)
