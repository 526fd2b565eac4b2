"""A POST that has one effect and one answer for each Idempotency-Key."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.responses import Response

from app.dependencies import CallerDep, ServicesDep
from app.domain.callers import Caller
from app.domain.ids import new_id
from app.errors import PaymentServiceError
from app.services.idempotency import Claim, IdempotencyService, IdempotentRequest

REPLAYED_HEADERS: Final = {"Idempotent-Replayed": "true"}
CLIENT_SECRET: Final = "client_secret"  # noqa: S105 - the name of a field
ELIDED: Final = ""
"""Stands in a stored reply where the client secret was; Stripe is asked for it at the replay."""

Work = Callable[[str, bool], Awaitable[BaseModel]]
"""Does the work for the resource id it is given, as often as it is asked, with one effect. The flag
says that it was begun before, by a worker that may only be slow.
"""

Renewal = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""What to answer in place of a stored reply with which a shopper can pay: the same, with the client
secret that it is kept without. Raises the refusal to answer when it can no longer be paid.
"""


class Once:
    def __init__(
        self, request: Request, caller: Caller, idempotency: IdempotencyService, key: str | None
    ) -> None:
        self._request = request
        self._caller = caller
        self._idempotency = idempotency
        self._key = key

    async def answer(
        self, body: BaseModel, prefix: str, work: Work, *, renew: Renewal | None = None
    ) -> Response:
        """Without a key the work is done for a new id; with one, once, and its answer is replayed.

        Refusals (4xx) are answers too and are replayed; server-side failures are not, so that a
        repeat continues where the first try stopped.
        """
        if self._key is None:
            return _json(await work(new_id(prefix), False))
        request = IdempotentRequest.of(
            self._key,
            scope=self._caller.scope,
            route=f"{self._request.method} {self._request.scope['route'].path}",
            # Sorted, because the order of a map (metadata) says nothing.
            body=json.dumps(body.model_dump(mode="json"), sort_keys=True),
        )
        claim = await self._idempotency.claim(request, prefix=prefix)
        if claim.answer is None:
            return await self._do(claim, work)
        if claim.answer.refusal is not None:
            raise claim.answer.refusal
        reply = dict(claim.answer.reply or {})
        if renew is not None:
            reply = await renew(reply)
        return JSONResponse(reply, headers=REPLAYED_HEADERS)

    async def _do(self, claim: Claim, work: Work) -> Response:
        try:
            reply = await work(claim.resource_id, claim.is_repeat)
        except PaymentServiceError as error:
            await self._idempotency.refuse(claim, error)
            raise
        except Exception:
            # Unforeseen, and raised again: a repeat need not wait for the lease to run out.
            await self._idempotency.release(claim)
            raise
        await self._idempotency.complete(claim, _without_secret(reply))
        return _json(reply)


async def once(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="1 to 255 printable characters. The same key with the same request has "
            "one effect and gets the same answer for 24 hours."
        ),
    ] = None,
) -> Once:
    """A coroutine, because FastAPI sends plain callables, classes too, to a thread pool."""
    return Once(request, caller, services.idempotency, idempotency_key)


OnceDep = Annotated[Once, Depends(once)]


def _json(reply: BaseModel) -> Response:
    return Response(reply.model_dump_json(), media_type="application/json")


def _without_secret(reply: BaseModel) -> dict[str, Any]:
    stored = reply.model_dump(mode="json")
    if stored.get(CLIENT_SECRET) is not None:
        stored[CLIENT_SECRET] = ELIDED
    return stored
