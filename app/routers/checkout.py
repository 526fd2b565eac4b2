from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from app.dependencies import CallerDep, ServicesDep, UserIdTypeDep
from app.domain.ids import PAYMENT_PREFIX
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    CheckoutSessionNotFound,
    InvalidAmountForCurrency,
    PaymentNotConfirmable,
    RedirectNotAllowed,
    UnsupportedCurrency,
)
from app.problems import problem_responses
from app.routers.once import OnceDep
from app.routers.responses import ASKS_STRIPE, GUARDED, POSTED
from app.schemas.checkout import (
    CheckoutSessionReply,
    CreateCheckoutSessionBody,
    CreateCheckoutSessionReply,
)

router = APIRouter(tags=["stripe checkout"])


@router.post(
    "/create-checkout-session",
    response_model=CreateCheckoutSessionReply,
    responses=problem_responses(
        *POSTED,
        *ASKS_STRIPE,
        AmountTooSmall,
        AmountTooLarge,
        InvalidAmountForCurrency,
        UnsupportedCurrency,
        RedirectNotAllowed,
        PaymentNotConfirmable,
    ),
)
async def create_checkout_session(
    body: CreateCheckoutSessionBody,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    user_ids: UserIdTypeDep,
) -> Response:
    """Starts a card payment on Stripe's hosted page: send the shopper to `checkout_url`."""
    body = body.of_canonical_user(user_ids)

    async def create(payment_id: str, is_repeat: bool) -> BaseModel:
        created = await services.checkout.create(
            caller,
            body.to_purchase(),
            payment_id=payment_id,
            customer_email=body.customer_email,
            success_url=body.success_url,
            cancel_url=body.cancel_url,
            locale=body.locale,
            is_repeat=is_repeat,
        )
        return CreateCheckoutSessionReply.of(created)

    async def renew(reply: dict[str, Any]) -> dict[str, Any]:
        await services.checkout.present(caller, reply["payment_id"])
        return reply

    return await once.answer(body, PAYMENT_PREFIX, create, renew=renew)


@router.get(
    "/checkout-session/{session_id}",
    responses=problem_responses(*GUARDED, *ASKS_STRIPE, CheckoutSessionNotFound),
)
async def get_checkout_session(
    session_id: Annotated[str, Path(min_length=1, max_length=255)],
    caller: CallerDep,
    services: ServicesDep,
) -> CheckoutSessionReply:
    """For the success page: asks Stripe how the session stands and records it. `complete` alone is
    not paid: look at `payment_status`, which stays `unpaid` for days with a delayed payment method.
    """
    payment, session = await services.checkout.status(caller, session_id)
    return CheckoutSessionReply.of(payment, session)
