"""Failures on demand: what the network and Stripe do on a bad day."""

import itertools
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.spread import Spread
from stripe_sandbox.protocol.errors import ApiError, lock_timeout, rate_limited

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
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(slots=True, eq=False)
class Fault:
    """``times`` counts down, None means for ever; ``chance`` is of striking a request at all."""

    id: int
    kind: FaultKind
    path: re.Pattern[str]
    method: str | None
    times: int | None
    seconds: Spread
    status: int
    reason: str
    chance: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    param: str | None = None
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
                type=self._type(),
                code=self.code,
                param=self.param,
                executed=self.kind == "error_after",
            )
        error.headers = {**error.headers, **self.headers}
        return error

    def _type(self) -> str:
        if self.status == 402:
            return "card_error"
        return "invalid_request_error" if self.code or self.param else "api_error"

    def as_json(self) -> StripeObject:
        return {
            "id": self.id,
            "kind": self.kind,
            "path": self.path.pattern,
            "method": self.method,
            "times": self.times,
            "chance": self.chance,
            "seconds": self.seconds.as_json(),
            "status": self.status,
            "reason": self.reason,
            "headers": dict(self.headers),
            "code": self.code,
            "param": self.param,
            "hits": self.hits,
        }


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls one request: at most one delay, of ``seconds``, and one failure."""

    latency: Fault | None = None
    failure: Fault | None = None
    seconds: float = 0.0


_NONE = Trouble()


class FaultPlan:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(
        self,
        kind: FaultKind,
        *,
        path: str = "",
        method: str | None = None,
        times: int | None = 1,
        chance: float = 1.0,
        seconds: Spread | float | str = 1.0,
        status: int = 500,
        reason: str = "global-rate",
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> Fault:
        """Let the next ``times`` requests suffer whose path the regular expression finds.

        ``seconds`` belongs to ``latency`` (see ``Spread``), ``status`` to ``error_before`` and
        ``error_after``, ``reason`` to ``rate_limit``; ``headers`` are added to an error's answer,
        ``code`` and ``param`` to its body: so a ``status`` of 400 refuses for good.
        With a ``chance`` below 1 only some of the requests that match suffer, the same ones each
        time if the sandbox has a seed.
        """
        if kind not in FAULT_KINDS:
            raise ValueError(f"a fault is one of {', '.join(FAULT_KINDS)}, not {kind!r}")
        if times is not None and times < 1:
            raise ValueError("times is at least 1, or None for ever")
        if not 0 < chance <= 1:
            raise ValueError("chance is more than 0 and at most 1")
        if not 400 <= status <= 599:
            raise ValueError("status is an error's, 400 to 599")
        sent = {"Stripe-Rate-Limited-Reason": reason, **(headers or {})}
        for name, value in sent.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"{name}: {value!r} cannot be sent as a header")
        fault = Fault(
            id=next(self._ids),
            kind=kind,
            path=re.compile(path),
            method=None if method is None else method.upper(),
            times=times,
            seconds=Spread.of(seconds),
            status=status,
            reason=reason,
            chance=float(chance),
            headers=dict(headers or {}),
            code=code,
            param=param,
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
        latency: Fault | None = None
        failure: Fault | None = None
        for fault in list(self._faults):
            settled = latency if fault.kind == "latency" else failure
            if settled is not None or not fault.matches(method, path):
                continue
            if fault.chance < 1 and self._chance.random() >= fault.chance:
                continue
            if fault.kind == "latency":
                latency = fault
            else:
                failure = fault
            self._use(fault)
        seconds = 0.0 if latency is None else latency.seconds.draw(self._chance)
        return Trouble(latency, failure, seconds)

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._faults.remove(fault)
