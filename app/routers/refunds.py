from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.dependencies import CallerDep, ServicesDep
from app.domain.ids import REFUND_PREFIX
from app.errors import (
    InvalidAmountForCurrency,
    PaymentNotFound,
    PaymentNotRefundable,
    RefundExceedsRemaining,
    RefundRefused,
    StripeFailed,
    StripeNotConfigured,
    UserNotFound,
)
from app.problems import problem_responses
from app.routers.once import OnceDep
from app.routers.responses import POSTED
from app.schemas.refunds import RefundBody, RefundReply

router = APIRouter(tags=["refunds"])


@router.post(
    "/refund",
    response_model=RefundReply,
    responses=problem_responses(
        *POSTED,
        PaymentNotFound,
        UserNotFound,
        PaymentNotRefundable,
        RefundExceedsRemaining,
        InvalidAmountForCurrency,
        RefundRefused,
        StripeFailed,
        StripeNotConfigured,
    ),
)
async def refund(
    body: RefundBody, caller: CallerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Gives money or credits back; without an amount all that remains. `pending` means that the
    refund is accepted and under way, also when Stripe has not answered yet: do not ask for it
    again.
    """
    body.require_one_measure()

    async def make(refund_id: str, _is_repeat: bool) -> BaseModel:
        made = await services.refunds.refund(
            caller,
            body.payment_id,
            refund_id=refund_id,
            amount=body.amount_cents,
            credits=body.credits,
            reason=body.reason,
        )
        return RefundReply.of(made)

    return await once.answer(body, REFUND_PREFIX, make)
