"""What a user bought and paid, newest first."""

from app.domain.callers import Caller
from app.domain.orders import Order
from app.domain.pages import Page, PagePosition
from app.domain.payments import Payment, PaymentStatus
from app.domain.user_ids import UserIdType
from app.repositories.orders import OrderRepository
from app.repositories.payments import PaymentRepository


class HistoryService:
    """Raises Forbidden for another user's history. Takes user ids in their canonical form."""

    def __init__(
        self, payments: PaymentRepository, orders: OrderRepository, user_ids: UserIdType
    ) -> None:
        self._payments = payments
        self._orders = orders
        self._user_ids = user_ids

    async def payments(
        self,
        caller: Caller,
        user_id: str,
        *,
        limit: int,
        after: PagePosition | None,
        status: PaymentStatus | None,
    ) -> Page[Payment]:
        caller.require_user(user_id)
        spellings = self._user_ids.spellings(user_id)
        return await self._payments.list_by_user(
            *spellings, limit=limit, after=after, status=status
        )

    async def orders(
        self, caller: Caller, user_id: str, *, limit: int, after: PagePosition | None
    ) -> Page[Order]:
        caller.require_user(user_id)
        spellings = self._user_ids.spellings(user_id)
        return await self._orders.list_by_user(*spellings, limit=limit, after=after)
