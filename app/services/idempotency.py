"""A client's Idempotency-Key: one effect and one answer for a day, whatever crashes in between.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from app.domain.clock import Clock
from app.domain.ids import new_id
from app.errors import (
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    PaymentServiceError,
    ValidationFailed,
    error_of_code,
)
from app.repositories.idempotency_keys import (
    KEY_LIFETIME,
    IdempotencyKeyRepository,
    IdempotencyRecord,
)

LEASE: Final = timedelta(seconds=30)
"""How long a request may run before a repeat continues its work. Two at once would do no harm, for
every step is safe to repeat; the lease only keeps them from wasting calls.
"""

RETRY_AFTER_SECONDS: Final = 2
"""Most requests end within a second, long before their lease."""

LONGEST_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """``scope`` separates callers; ``fingerprint`` is of the route and the body as we understand
    it.
    """

    key: str
    scope: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, *, scope: str, route: str, body: str) -> "IdempotentRequest":
        """Raises ValidationFailed for a key that is empty, too long or not printable ASCII."""
        if not 0 < len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
            raise ValidationFailed.of_field(
                "Idempotency-Key", f"This must be 1 to {LONGEST_KEY} printable characters"
            )
        return cls(key, scope, hashlib.sha256(f"{route}\n{body}".encode()).hexdigest())

    @property
    def record_id(self) -> str:
        return hashlib.sha256(f"{self.scope}\n{self.key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A reply's JSON object, or the refusal that was answered."""

    reply: dict[str, Any] | None = None
    refusal: PaymentServiceError | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Either ``answer`` is there to be replayed, or the work is to be done for ``record``.

    ``is_repeat``: an earlier request began the work, and may still be at it.
    """

    record: IdempotencyRecord
    answer: StoredAnswer | None = None
    is_repeat: bool = False

    @property
    def resource_id(self) -> str:
        """The id for what the request makes; the same for every repeat of it."""
        return self.record.resource_id


class IdempotencyService:
    def __init__(self, keys: IdempotencyKeyRepository, *, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def claim(self, request: IdempotentRequest, *, prefix: str) -> Claim:
        """Claims the key. Raises IdempotencyKeyReused or IdempotencyKeyInUse.

        A claim whose request died is taken over and continues with the same resource id.
        """
        now = self._clock()
        fresh = IdempotencyRecord(
            record_id=request.record_id,
            fingerprint=request.fingerprint,
            resource_id=new_id(prefix),
            lease_until=now + LEASE,
            expires_at=now + KEY_LIFETIME,
        )
        if await self._keys.add(fresh):
            return Claim(fresh)
        known = await self._keys.find(request.record_id)
        if known is None:
            raise _in_use()
        if known.expires_at <= now:
            return Claim(await self._take_over(known, fresh))
        if known.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another request; use a new key."
            )
        if known.status_code is not None and known.body is not None:
            return Claim(known, _answer(known.body))
        if known.lease_until > now:
            raise _in_use()
        record = await self._take_over(known, replace(known, lease_until=now + LEASE))
        return Claim(record, is_repeat=True)

    async def complete(self, claim: Claim, reply: dict[str, Any]) -> None:
        await self._keys.store_answer(claim.record, 200, json.dumps({"reply": reply}))

    async def refuse(self, claim: Claim, error: PaymentServiceError) -> None:
        """Stores a refusal, or frees the key when the failure was ours or a dependency's.

        Raises IdempotencyKeyInUse when a repeat has taken over: what it finds is the answer.
        """
        if error.status >= 500:
            await self.release(claim)
            return
        body = {"refusal": {"code": error.code, "detail": error.detail, "facts": error.facts}}
        if not await self._keys.store_refusal(claim.record, error.status, json.dumps(body)):
            raise _in_use() from error

    async def release(self, claim: Claim) -> None:
        """Lets a repeat of the request continue at once."""
        await self._keys.release(claim.record, now=self._clock())

    async def _take_over(
        self, known: IdempotencyRecord, record: IdempotencyRecord
    ) -> IdempotencyRecord:
        if await self._keys.take_over(known, record) is None:
            raise _in_use()
        return record


def _in_use() -> IdempotencyKeyInUse:
    return IdempotencyKeyInUse(
        "A request with this Idempotency-Key is still running; please try again.",
        retry_after=RETRY_AFTER_SECONDS,
    )


def _answer(body: str) -> StoredAnswer:
    stored = json.loads(body)
    if "reply" in stored:
        return StoredAnswer(reply=stored["reply"])
    refusal = stored["refusal"]
    error = error_of_code(refusal["code"])(refusal["detail"], **refusal["facts"])
    error.replayed = True
    return StoredAnswer(refusal=error)
