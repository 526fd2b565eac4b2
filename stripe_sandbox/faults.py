"""Failures on demand: what the network and Stripe do on a bad day."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from stripe_sandbox.errors import ApiError, lock_timeout, rate_limited
from stripe_sandbox.objects import StripeObject

FaultKind = Literal[
    "latency",
    "drop_before",
    "drop_after",
    "error_before",
    "error_after",
    "rate_limit",
    "lock_timeout",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(slots=True, eq=False)
class Fault:
    """``times`` counts down; None means for ever."""

    id: int
    kind: FaultKind
    path: re.Pattern[str]
    method: str | None
    times: int | None
    seconds: float
    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        return (self.method is None or self.method == method) and bool(self.path.search(path))

    def refusal(self) -> ApiError:
        """The error that this fault answers with."""
        if self.kind == "rate_limit":
            error = rate_limited(self.reason)
        elif self.kind == "lock_timeout":
            error = lock_timeout()
        else:
            error = ApiError(
                self.status,
                "An unknown error occurred. (The sandbox was told to fail.)",
                type="api_error",
                executed=self.kind == "error_after",
            )
        error.headers = {**error.headers, **self.headers}
        return error

    def as_json(self) -> StripeObject:
        return {
            "id": self.id,
            "kind": self.kind,
            "path": self.path.pattern,
            "method": self.method,
            "times": self.times,
            "seconds": self.seconds,
            "status": self.status,
            "hits": self.hits,
        }


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls one request: at most one delay and one failure."""

    latency: Fault | None = None
    failure: Fault | None = None


_NONE = Trouble()


class FaultPlan:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(
        self,
        kind: FaultKind,
        *,
        path: str = "",
        method: str | None = None,
        times: int | None = 1,
        seconds: float = 1.0,
        status: int = 500,
        reason: str = "global-rate",
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Let the next ``times`` requests suffer whose path the regular expression finds.

        ``seconds`` belongs to ``latency``, ``status`` to ``error_before`` and ``error_after``,
        ``reason`` to ``rate_limit``; ``headers`` are added to an error's answer.
        """
        if kind not in FAULT_KINDS:
            raise ValueError(f"a fault is one of {', '.join(FAULT_KINDS)}, not {kind!r}")
        if times is not None and times < 1:
            raise ValueError("times is at least 1, or None for ever")
        fault = Fault(
            id=next(self._ids),
            kind=kind,
            path=re.compile(path),
            method=None if method is None else method.upper(),
            times=times,
            seconds=seconds,
            status=status,
            reason=reason,
            headers=dict(headers or {}),
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def all(self) -> list[Fault]:
        """Faults that still have an effect to come."""
        return list(self._faults)

    def strike(self, method: str, path: str) -> Trouble:
        """The faults of one request, which are thereby used up once."""
        if not self._faults:
            return _NONE
        matching = [fault for fault in self._faults if fault.matches(method, path)]
        latency = next((fault for fault in matching if fault.kind == "latency"), None)
        failure = next((fault for fault in matching if fault.kind != "latency"), None)
        for fault in (latency, failure):
            if fault is not None:
                self._use(fault)
        return Trouble(latency, failure)

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._faults.remove(fault)
