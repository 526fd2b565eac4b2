from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor

from app.dependencies import CallerDep, ServicesDep, UserIdTypeDep
from app.domain.ids import CANCELLATION_PREFIX
from app.domain.payments import PaymentStatus
from app.errors import PaymentNotCancelable, PaymentNotFound
from app.problems import problem_responses
from app.routers.once import OnceDep
from app.routers.responses import ASKS_STRIPE, GUARDED, POSTED
from app.schemas.common import AnyPaymentId, UserId
from app.schemas.payments import (
    CancelPayment,
    OrderListReply,
    PaymentListReply,
    PaymentReply,
    decode_cursor,
)

router = APIRouter(tags=["payments"])


class _UserIdConvertor(PathConvertor):
    """A user id may hold a slash, which servers decode before a route is looked for. What follows
    it is the last segment of the path, so that no path can be read in two ways.
    """

    regex = "(?s:.+)"


register_url_convertor("user_id", _UserIdConvertor())


async def canonical_user_id(user_id: UserId, user_ids: UserIdTypeDep) -> str:
    return user_ids.canonical(user_id)


CanonicalUserId = Annotated[str, Depends(canonical_user_id)]

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=500, description="The page before's next_cursor.")]


@router.get("/payment/{payment_id}", responses=problem_responses(*GUARDED, PaymentNotFound))
async def get_payment(
    payment_id: Annotated[
        AnyPaymentId, Path(description="Ours, or a PaymentIntent's or Checkout Session's id.")
    ],
    caller: CallerDep,
    services: ServicesDep,
) -> PaymentReply:
    """A payment with its refunds and disputes, as it is recorded here; Stripe is not asked."""
    return PaymentReply.of(await services.lookup.get(caller, payment_id))


@router.post(
    "/payment/{payment_id}/cancel",
    response_model=PaymentReply,
    responses=problem_responses(*POSTED, *ASKS_STRIPE, PaymentNotFound, PaymentNotCancelable),
)
async def cancel_payment(
    payment_id: Annotated[
        AnyPaymentId, Path(description="Ours, or a PaymentIntent's or Checkout Session's id.")
    ],
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
) -> Response:
    """Closes an unpaid payment: its PaymentIntent or its page at Stripe, then the payment. When the
    shopper pays at the same moment, Stripe decides, and a payment that was paid is 409. No body.
    """

    async def cancel(_id: str, _is_repeat: bool) -> BaseModel:
        return PaymentReply.of(await services.cancellation.cancel(caller, payment_id))

    return await once.answer(CancelPayment(payment_id=payment_id), CANCELLATION_PREFIX, cancel)


@router.get("/user/{user_id:user_id}/payments", responses=problem_responses(*GUARDED))
async def list_payments(
    caller: CallerDep,
    user_id: CanonicalUserId,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: PaymentStatus | None = None,
) -> PaymentListReply:
    """Newest first."""
    page = await services.history.payments(
        caller, user_id, limit=limit, after=decode_cursor(cursor), status=status
    )
    return PaymentListReply.of(page)


@router.get("/user/{user_id:user_id}/orders", responses=problem_responses(*GUARDED))
async def list_orders(
    caller: CallerDep,
    user_id: CanonicalUserId,
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> OrderListReply:
    """Newest first."""
    page = await services.history.orders(caller, user_id, limit=limit, after=decode_cursor(cursor))
    return OrderListReply.of(page)
