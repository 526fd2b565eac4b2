"""Whether the databases answer."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

from app.errors import DatabaseUnavailable
from app.repositories.database import AUTH_DATABASE, PAYMENTS_DATABASE, Databases, ping

CheckResult = Literal["ok", "unavailable"]

PROBE_TIMEOUT_SECONDS: Final = 2.0
"""Below the time-out of a usual Kubernetes probe, so that the answer names the failing check."""


class HealthService:
    def __init__(self, databases: Databases) -> None:
        self._databases = {
            PAYMENTS_DATABASE: databases.payments,
            AUTH_DATABASE: databases.auth,
        }

    async def check(self) -> Mapping[str, CheckResult]:
        """By the name of the check, ``payments_database`` and ``auth_database``."""
        names = list(self._databases)
        results = await asyncio.gather(*(self._answers(name) for name in names))
        return {f"{name}_database": result for name, result in zip(names, results, strict=True)}

    async def _answers(self, name: str) -> CheckResult:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                await ping(self._databases[name], name)
        except (DatabaseUnavailable, TimeoutError):
            return "unavailable"
        return "ok"
