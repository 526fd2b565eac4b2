from typing import Literal

from app.schemas.common import ReplyBody


class HealthReply(ReplyBody):
    status: Literal["healthy"] = "healthy"
    version: str
    service: str
    stripe_mode: Literal["sandbox", "live"]


class LivenessReply(ReplyBody):
    status: Literal["alive"] = "alive"


class ReadinessReply(ReplyBody):
    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok", "unavailable"]]
