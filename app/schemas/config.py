from typing import Literal

from app.schemas.common import ReplyBody


class PublishableKeyReply(ReplyBody):
    publishable_key: str
    mode: Literal["test", "live"]
