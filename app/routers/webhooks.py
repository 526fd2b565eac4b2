from typing import Annotated

from fastapi import APIRouter, Header, Request

from app.dependencies import ServicesDep
from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    EventNotYetApplicable,
    InvalidSignature,
    LivemodeMismatch,
    NotAStripeEvent,
    StripeNotConfigured,
    UnsupportedEventPayload,
)
from app.problems import problem_responses
from app.schemas.webhooks import WebhookReply

router = APIRouter(tags=["webhook"])


@router.post(
    "/webhook/stripe",
    responses=problem_responses(
        InvalidSignature,
        LivemodeMismatch,
        NotAStripeEvent,
        UnsupportedEventPayload,
        BodyTooLarge,
        StripeNotConfigured,
        DatabaseUnavailable,
        EventNotYetApplicable,
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def receive_stripe_event(
    request: Request,
    services: ServicesDep,
    stripe_signature: Annotated[str | None, Header()] = None,
) -> WebhookReply:
    """Called by Stripe; the signature over the raw body is the credential. Anything but 2xx means
    that the event is to be delivered again.
    """
    receipt = await services.inbox.receive(await request.body(), stripe_signature)
    return WebhookReply(event_id=receipt.stripe_event_id, result=receipt.result)
