"""Every outgoing step of the application, numbered, and what can go wrong at it.

A step is one database command or one HTTP call to Stripe. Nobody lists them: they are found by
recording a run, so that code of tomorrow is broken tomorrow.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
)
from stripe import APIConnectionError

Kind = Literal["db", "stripe", "time"]
Answer = TypeVar("Answer")
Effect = Callable[[], Awaitable[Any]]

_STRIPE_ID = re.compile(r"\b(pi|cs|re|pyr|ch|evt|du|pm)_[A-Za-z0-9_]{8,}")


class Died(BaseException):
    """The process is gone. Not an Exception: nothing in a dead process handles anything."""


@dataclass(frozen=True, slots=True)
class Step:
    """``target`` is ``database.collection`` or a path; ``key`` the document's id, where the
    command names one; ``writes`` whether it can change anything.
    """

    kind: Kind
    verb: str
    target: str
    key: str | None = None
    writes: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.verb} {_STRIPE_ID.sub('{id}', self.target)}"

    def commutes_with(self, other: "Step") -> bool:
        """Whether the order of the two cannot matter to anybody."""
        if "time" in (self.kind, other.kind):
            return False
        if not (self.writes or other.writes):
            return True
        if self.kind != other.kind or self.kind == "stripe":
            return self.kind != other.kind
        if self.target != other.target:
            return True
        return self.key is not None and other.key is not None and self.key != other.key


DATABASE_FAULTS: Final = (
    "unreachable",
    "reset_before",
    "reset_after",
    "timeout_after",
    "not_primary_before",
    "not_primary_after",
    "write_conflict",
    "twice",
)
STRIPE_FAULTS: Final = (
    "reset_before",
    "reset_after",
    "timeout_before",
    "timeout_after",
    "deadline_after",
    "error_before",
    "error_after",
    "conflict",
    "rate_limit",
    "twice",
)
DEATHS: Final = ("die_before", "die_after")
LASTING: Final = "+"
"""Ends the name of a fault that lasts until the operation is over: a retry does not help."""
_WITHOUT_LASTING: Final = frozenset({"twice", "write_conflict"})
ANY: Final = "any"
"""Begins a fault that is chosen by its number among all that the step can suffer, deaths too."""


def faults_of(step: Step) -> tuple[str, ...]:
    """All that can go wrong at the step but for death."""
    names: Sequence[str] = DATABASE_FAULTS if step.kind == "db" else STRIPE_FAULTS
    if step.kind == "db" and not step.writes:
        names = [name for name in names if name != "twice"]
    return (*names, *(name + LASTING for name in names if name not in _WITHOUT_LASTING))


def chosen(step: Step, fault: str) -> str:
    """The fault itself, for one that is chosen by its number."""
    if not fault.startswith(ANY):
        return fault
    names = (*DEATHS, *faults_of(step))
    return names[int(fault.removeprefix(ANY)) % len(names)]


_SANDBOX_FAULTS: Final = {
    "error_before": "error_before",
    "error_after": "error_after",
    "conflict": "lock_timeout",
    "rate_limit": "rate_limit",
}


async def strike(fault: str, step: Step, effect: Effect, stripe: Any) -> Any:
    """Performs the step with the fault. ``stripe`` is the sandbox."""
    name = fault.removesuffix(LASTING)
    if name in _SANDBOX_FAULTS and step.kind == "stripe":
        stripe.faults.add(_SANDBOX_FAULTS[name], method=step.verb)
        return await effect()
    match name:
        case "twice":
            await effect()
            return await effect()
        case "unreachable":
            raise ServerSelectionTimeoutError("no server is reachable (the laboratory)")
        case "write_conflict":
            raise OperationFailure("WriteConflict", 112, {"code": 112})
        case "not_primary_before":
            raise NotPrimaryError("not primary", {"code": 10107})
        case "not_primary_after":
            await effect()
            raise NotPrimaryError("stepped down", {"code": 11602})
        case "reset_before":
            raise _reset(step)
        case "reset_after":
            await effect()
            raise _reset(step)
        case "timeout_before":
            raise _timeout(step)
        case "timeout_after":
            await effect()
            raise _timeout(step)
        case "deadline_after":
            # Not the SDK's time-out, after which it asks again, but the end of the whole call's.
            await effect()
            raise TimeoutError
        case _:
            raise ValueError(f"no such fault: {fault}")


def _reset(step: Step) -> Exception:
    if step.kind == "db":
        return AutoReconnect("connection closed (the laboratory)")
    return _connection_error(ConnectionResetError())


def _timeout(step: Step) -> Exception:
    if step.kind == "db":
        return NetworkTimeout("timed out (the laboratory)")
    return _connection_error(TimeoutError())


def _connection_error(cause: Exception) -> APIConnectionError:
    """As the SDK's aiohttp client raises it, cause and all."""
    untyped: Any = APIConnectionError
    error: APIConnectionError = untyped("the laboratory broke the connection", should_retry=True)
    error.__cause__ = cause
    return error
