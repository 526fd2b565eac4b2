from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.dependencies import CallerDep, ServicesDep, UserIdTypeDep
from app.domain.ids import CONFIRMATION_PREFIX, PAYMENT_PREFIX
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    CardDeclined,
    InvalidAmountForCurrency,
    PaymentNotConfirmable,
    PaymentNotFound,
    UnsupportedCurrency,
)
from app.problems import problem_responses
from app.routers.once import CLIENT_SECRET, OnceDep
from app.routers.responses import ASKS_STRIPE, POSTED
from app.schemas.intents import (
    ConfirmPaymentBody,
    ConfirmPaymentReply,
    CreatePaymentIntentBody,
    CreatePaymentIntentReply,
)

router = APIRouter(tags=["stripe elements"])


@router.post(
    "/create-payment-intent",
    response_model=CreatePaymentIntentReply,
    responses=problem_responses(
        *POSTED,
        *ASKS_STRIPE,
        AmountTooSmall,
        AmountTooLarge,
        InvalidAmountForCurrency,
        UnsupportedCurrency,
        PaymentNotConfirmable,
    ),
)
async def create_payment_intent(
    body: CreatePaymentIntentBody,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    user_ids: UserIdTypeDep,
) -> Response:
    """Starts a card payment; the frontend pays it with Stripe Elements and the `client_secret`."""
    body = body.of_canonical_user(user_ids)
    purchase = body.to_purchase()

    async def create(payment_id: str, is_repeat: bool) -> BaseModel:
        created = await services.intents.create(
            caller,
            purchase,
            payment_id=payment_id,
            details=body.to_details(),
            is_repeat=is_repeat,
        )
        return CreatePaymentIntentReply.of(created)

    async def renew(reply: dict[str, Any]) -> dict[str, Any]:
        created = await services.intents.present(caller, reply["payment_id"])
        return reply | {CLIENT_SECRET: created.at_stripe.client_secret}

    return await once.answer(body, PAYMENT_PREFIX, create, renew=renew)


@router.post(
    "/confirm-payment",
    response_model=ConfirmPaymentReply,
    responses=problem_responses(
        *POSTED, *ASKS_STRIPE, CardDeclined, PaymentNotFound, PaymentNotConfirmable
    ),
)
async def confirm_payment(
    body: ConfirmPaymentBody, caller: CallerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Makes one attempt with `payment_method_id`, or without one reports (and records) how it went
    in the shopper's browser. A paid payment becomes an order here if the webhook has not made it
    yet.
    """

    async def confirm(confirmation_id: str, is_repeat: bool) -> BaseModel:
        confirmation = await services.intents.confirm(
            caller,
            body.payment_intent_id,
            body.payment_method_id,
            confirmation_id=confirmation_id,
            is_repeat=is_repeat,
        )
        return ConfirmPaymentReply.of(confirmation)

    async def renew(reply: dict[str, Any]) -> dict[str, Any]:
        if reply[CLIENT_SECRET] is None:
            return reply
        created = await services.intents.present_action(caller, reply["payment_id"])
        return reply | {CLIENT_SECRET: created.at_stripe.client_secret}

    return await once.answer(body, CONFIRMATION_PREFIX, confirm, renew=renew)
