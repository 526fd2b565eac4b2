"""Whether the databases answer, and let us in."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

from app.errors import DatabaseUnavailable
from app.repositories.database import AUTH_DATABASE, PAYMENTS_DATABASE, Collection, probe

CheckResult = Literal["ok", "unavailable"]

PROBE_TIMEOUT_SECONDS: Final = 2.0
"""Below the time-out of a usual Kubernetes probe, so that the answer names the failing check."""


class HealthService:
    def __init__(self, *, payments: Collection, users: Collection) -> None:
        self._collections = {PAYMENTS_DATABASE: payments, AUTH_DATABASE: users}
        self._probes: dict[str, asyncio.Task[CheckResult]] = {}

    async def check(self) -> Mapping[str, CheckResult]:
        """By the name of the check, ``payments_database`` and ``auth_database``."""
        names = list(self._collections)
        results = await asyncio.gather(*(self._answers(name) for name in names))
        return {f"{name}_database": result for name, result in zip(names, results, strict=True)}

    async def _answers(self, name: str) -> CheckResult:
        """Everyone who asks at the same time waits for one probe: a database that does not answer
        holds one of the driver's threads, however often it is asked.
        """
        running = self._probes.get(name)
        if running is None or running.done():
            running = self._probes[name] = asyncio.create_task(self._probe(name))
        done, _ = await asyncio.wait({running}, timeout=PROBE_TIMEOUT_SECONDS)
        return running.result() if done else "unavailable"

    async def _probe(self, name: str) -> CheckResult:
        try:
            await probe(self._collections[name], name)
        except DatabaseUnavailable:
            return "unavailable"
        return "ok"
