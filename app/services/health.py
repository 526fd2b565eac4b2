"""Whether the databases answer, and let us in."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

from app.errors import DatabaseUnavailable

CheckResult = Literal["ok", "unavailable"]

PROBE_TIMEOUT_SECONDS: Final = 2.0
"""Below the time-out of a usual Kubernetes probe, so that the answer names the failing check."""


Probe = Callable[[], Awaitable[None]]
"""Reads what is served. Raises DatabaseUnavailable."""


class HealthService:
    def __init__(self, probes: Mapping[str, Probe]) -> None:
        """``probes`` by the name of the database."""
        self._probes = probes
        self._running: dict[str, asyncio.Task[CheckResult]] = {}

    async def check(self) -> Mapping[str, CheckResult]:
        """By the name of the check, ``payments_database`` and ``auth_database``."""
        results = await asyncio.gather(*map(self._answers, self._probes))
        return {
            f"{name}_database": result for name, result in zip(self._probes, results, strict=True)
        }

    async def _answers(self, name: str) -> CheckResult:
        """Everyone who asks at the same time waits for one probe: a database that does not answer
        holds one of the driver's threads, however often it is asked.
        """
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = asyncio.create_task(self._probe(name))
        done, _ = await asyncio.wait({running}, timeout=PROBE_TIMEOUT_SECONDS)
        return running.result() if done else "unavailable"

    async def _probe(self, name: str) -> CheckResult:
        try:
            await self._probes[name]()
        except DatabaseUnavailable:
            return "unavailable"
        return "ok"
