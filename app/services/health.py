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
        self._pings: dict[str, asyncio.Task[CheckResult]] = {}

    async def check(self) -> Mapping[str, CheckResult]:
        """By the name of the check, ``payments_database`` and ``auth_database``."""
        names = list(self._databases)
        results = await asyncio.gather(*(self._answers(name) for name in names))
        return {f"{name}_database": result for name, result in zip(names, results, strict=True)}

    async def _answers(self, name: str) -> CheckResult:
        """Everyone who asks at the same time waits for one ping: a database that does not answer
        holds one of the driver's threads, however often it is probed.
        """
        running = self._pings.get(name)
        if running is None or running.done():
            running = self._pings[name] = asyncio.create_task(self._ping(name))
        done, _ = await asyncio.wait({running}, timeout=PROBE_TIMEOUT_SECONDS)
        return running.result() if done else "unavailable"

    async def _ping(self, name: str) -> CheckResult:
        try:
            await ping(self._databases[name], name)
        except DatabaseUnavailable:
            return "unavailable"
        return "ok"
