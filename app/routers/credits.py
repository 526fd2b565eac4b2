from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.dependencies import CallerDep, ServicesDep, UserIdTypeDep
from app.domain.ids import PAYMENT_PREFIX
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    InsufficientCredits,
    PaymentNotConfirmable,
    TotalMismatch,
    UserNotFound,
)
from app.problems import problem_responses
from app.routers.once import OnceDep
from app.routers.responses import POSTED
from app.schemas.credits import PayWithCreditsBody, PayWithCreditsReply

router = APIRouter(tags=["credits"])


@router.post(
    "/pay-with-credits",
    response_model=PayWithCreditsReply,
    responses=problem_responses(
        *POSTED,
        InsufficientCredits,
        UserNotFound,
        TotalMismatch,
        AmountTooSmall,
        AmountTooLarge,
        PaymentNotConfirmable,
    ),
)
async def pay_with_credits(
    body: PayWithCreditsBody,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    user_ids: UserIdTypeDep,
) -> Response:
    """Pays at once with the account's credits. `amount` is converted at the value of one credit and
    rounded up.
    """
    body = body.of_canonical_user(user_ids)
    purchase = body.to_purchase()

    async def pay(payment_id: str, is_repeat: bool) -> BaseModel:
        paid = await services.credits.pay(
            caller, purchase, payment_id=payment_id, is_repeat=is_repeat
        )
        return PayWithCreditsReply.of(paid)

    return await once.answer(body, PAYMENT_PREFIX, pay)
