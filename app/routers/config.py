from fastapi import APIRouter

from app.dependencies import SettingsDep
from app.errors import StripeNotConfigured
from app.problems import problem_responses
from app.schemas.config import PublishableKeyReply

router = APIRouter(tags=["config"])


@router.get("/config/publishable-key", responses=problem_responses(StripeNotConfigured))
async def get_publishable_key(settings: SettingsDep) -> PublishableKeyReply:
    """The key for `loadStripe` in the frontend. Public."""
    if not settings.stripe_publishable_key:
        raise StripeNotConfigured("STRIPE_PUBLISHABLE_KEY is not set.")
    return PublishableKeyReply(publishable_key=settings.stripe_publishable_key, mode=settings.mode)
