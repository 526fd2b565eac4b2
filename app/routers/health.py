from typing import Final

from fastapi import APIRouter, Response

from app import __version__
from app.dependencies import ServicesDep, SettingsDep
from app.errors import DatabaseUnavailable
from app.problems import problem_response, problem_responses
from app.schemas.health import HealthReply, LivenessReply, ReadinessReply

SERVICE_NAME: Final = "audiobooker-payment"

router = APIRouter(prefix="/health", tags=["health"])
"""Monitors ask with HEAD too: the same answer, whose body RequestContextMiddleware leaves out."""


@router.head("", include_in_schema=False)
@router.head("/", include_in_schema=False)
@router.get("", include_in_schema=False)
@router.get("/")
async def health(settings: SettingsDep) -> HealthReply:
    """Which service and version answers, and whether money moves; touches no dependency."""
    return HealthReply(
        version=__version__,
        service=SERVICE_NAME,
        stripe_mode="live" if settings.mode == "live" else "sandbox",
    )


@router.head("/live", include_in_schema=False)
@router.get("/live")
async def live() -> LivenessReply:
    """For the liveness probe: touches no dependency."""
    return LivenessReply()


@router.head("/ready", response_model=ReadinessReply, include_in_schema=False)
@router.get(
    "/ready", response_model=ReadinessReply, responses=problem_responses(DatabaseUnavailable)
)
async def ready(services: ServicesDep) -> ReadinessReply | Response:
    """For the readiness probe: 503 names the database that does not answer."""
    checks = await services.health.check()
    failing = [name for name, result in checks.items() if result != "ok"]
    if not failing:
        return ReadinessReply(checks=dict(checks))
    return problem_response(
        DatabaseUnavailable.status,
        DatabaseUnavailable.code,
        DatabaseUnavailable.title,
        f"Not ready: {' and '.join(failing)} did not answer.",
        facts={"checks": dict(checks)},
        headers={"Retry-After": "5"},
    )
