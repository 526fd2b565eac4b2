from typing import Literal

from app.domain.webhook_events import EventResult
from app.schemas.common import ReplyBody


class WebhookReply(ReplyBody):
    received: Literal[True] = True
    event_id: str
    result: EventResult
