"""Answers kept for idempotency keys (https://docs.stripe.com/api/idempotent_requests)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stripe_sandbox.core.clock import Clock
from stripe_sandbox.protocol.errors import ApiError

RETENTION_SECONDS = 24 * 3600
_MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        return replace(self, headers={**self.headers, **headers})


@dataclass(slots=True)
class KeptAnswer:
    """``answer`` is None while the first request is still running."""

    method: str
    path: str
    fingerprint: str
    request_id: str
    created: float
    answer: Answer | None = None


def fingerprint(params: dict[str, Any]) -> str:
    canonical = json.dumps(params, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refusal(status: int, message: str, code: str | None = None) -> ApiError:
    return ApiError(status, message, type="idempotency_error", code=code, executed=False)


class IdempotencyKeys:
    """Keys belong to an account. Results are forgotten after 24 hours of the sandbox's clock."""

    def __init__(self, clock: Clock, capacity: int) -> None:
        self._clock = clock
        self._capacity = capacity
        self._kept: dict[tuple[str, str], KeptAnswer] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def claim(
        self, account: str, key: str, method: str, path: str, print: str, request_id: str
    ) -> KeptAnswer:
        """The kept answer of an earlier use, or a new claim whose ``answer`` is to be filled in."""
        if len(key) > _MAX_KEY:
            raise ApiError(
                400,
                f"Idempotency keys can be at most {_MAX_KEY} characters long.",
                executed=False,
            )
        self._forget_old()
        kept = self._kept.get((account, key))
        if kept is None:
            claim = KeptAnswer(method, path, print, request_id, self._clock.now())
            self._kept[account, key] = claim
            return claim
        otherwise = (
            f"Try using a key other than '{key}' if you meant to execute a different request."
        )
        if (kept.method, kept.path) != (method, path):
            raise _refusal(
                400,
                "Keys for idempotent requests can only be used for the same endpoint they were "
                f"first used for ('{kept.path}' vs '{path}'). {otherwise}",
            )
        if kept.fingerprint != print:
            raise _refusal(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. {otherwise}",
            )
        if kept.answer is None:
            raise _refusal(
                409,
                "There is currently another in-progress request using this Idempotent Key (that "
                "probably means you submitted twice, and the other request is still going "
                f"through): {key}. Please try again later.",
                "idempotency_key_in_use",
            )
        return kept

    def release(self, account: str, key: str, claim: KeptAnswer) -> None:
        """Nothing was executed: the key is as good as new, unless it is somebody else's by now."""
        if self._kept.get((account, key)) is claim:
            del self._kept[account, key]

    def _forget_old(self) -> None:
        horizon = self._clock.now() - RETENTION_SECONDS
        while self._kept:
            oldest = next(iter(self._kept))
            if self._kept[oldest].created > horizon and len(self._kept) < self._capacity:
                return
            del self._kept[oldest]
