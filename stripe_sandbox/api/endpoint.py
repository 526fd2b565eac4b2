"""The API over HTTP: keys, idempotency, faults and error bodies around the route table."""

import asyncio
import base64
import binascii
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from stripe_sandbox.api.routes import Call, Route, build_routes
from stripe_sandbox.objects.events import Cause
from stripe_sandbox.protocol.connection import ClientLeft, hang_up, read_body, send_response
from stripe_sandbox.protocol.errors import (
    ApiError,
    invalid_api_key,
    invalid_version,
    no_api_key,
    secret_key_required,
    unrecognized_url,
)
from stripe_sandbox.protocol.idempotency import Answer, fingerprint
from stripe_sandbox.protocol.params import read_params
from stripe_sandbox.protocol.requests import RequestRecord
from stripe_sandbox.protocol.wire import decode
from stripe_sandbox.sandbox import Sandbox
from stripe_sandbox.trouble.faults import Fault

logger = logging.getLogger("stripe_sandbox.api")

_PUBLISHABLE_PREFIX = "pk_test_"
_KEY = re.compile(r"(sk|rk|pk)_test_[A-Za-z0-9_]+")
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?")
_FORM = "application/x-www-form-urlencoded"

# Stripe.js calls from pages of any origin, with a publishable key. A secret key has no business in
# a browser: no page is let read an answer to one.
_CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Request-Id"}
_PREFLIGHT = {
    **_CORS,
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Stripe-Version",
    "Access-Control-Max-Age": "300",
}


class StripeApi:
    """An ASGI application for ``/v1``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._routes = build_routes(sandbox)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await send_response(send, 200, b"", _PREFLIGHT)
            return
        request = _Request(self._sandbox.ids.request(), scope["method"], scope["path"], headers)
        try:
            answer = await self._answer(request, scope, receive)
        except ClientLeft:
            return
        if request.record is not None:
            request.record.status = None if answer is None else answer.status
        if answer is None:
            await hang_up(receive, send)
            return
        sent = {
            "Content-Type": "application/json",
            "Cache-Control": "no-cache, no-store",
            "Request-Id": request.id,
            "Stripe-Version": headers.get("stripe-version", self._sandbox.config.api_version),
            **answer.headers,
        }
        if "origin" in headers and f" {_PUBLISHABLE_PREFIX}" in headers.get("authorization", ""):
            sent.update(_CORS)
        await send_response(send, answer.status, answer.body, sent)

    async def _answer(self, request: "_Request", scope: Scope, receive: Receive) -> Answer | None:
        """None means: close the connection without a word."""
        try:
            return await self._execute(request, scope, receive)
        except ApiError as refusal:
            return _error_answer(refusal, request)

    async def _execute(self, request: "_Request", scope: Scope, receive: Receive) -> Answer | None:
        sandbox = self._sandbox
        sandbox.clock.run_due()
        body = await read_body(receive)
        try:
            raw = self._raw_params(request, scope["query_string"], body)
        except ApiError:
            self._remember(request, {})
            raise
        record = self._remember(request, raw)
        publishable = _authenticate(request.headers.get("authorization"))
        version = request.headers.get("stripe-version")
        if version is not None and not _VERSION.fullmatch(version):
            raise invalid_version(version)
        found = self._routes.find(request.method, request.path)
        if found is None:
            raise unrecognized_url(request.method, request.path)
        route, id = found
        if publishable and not route.publishable:
            raise secret_key_required()

        sandbox.limiter.admit()
        trouble = sandbox.faults.strike(request.method, request.path)
        failure = trouble.failure
        cause = failure or trouble.latency
        record.fault = None if cause is None else cause.kind
        if failure is not None and failure.kind in ("rate_limit", "lock_timeout"):
            raise failure.refusal()

        params = read_params(route.spec, raw)
        if route.check is not None:
            route.check(params)
        call = Call(params, id, publishable)
        wait = sandbox.latency() + trouble.seconds

        key = request.idempotency_key
        if key is None:
            if wait > 0:
                await asyncio.sleep(wait)
            answer, _ = self._run(request, route, call, failure)
            return answer

        account = request.headers.get("stripe-account", "")
        kept = sandbox.idempotency.claim(
            account, key, request.method, request.path, fingerprint(raw), request.id
        )
        if kept.answer is not None:
            record.replayed = True
            return kept.answer.with_headers(
                {
                    "Idempotency-Key": key,
                    "Original-Request": kept.request_id,
                    "Idempotent-Replayed": "true",
                }
            )
        executed = False
        try:
            if wait > 0:
                await asyncio.sleep(wait)
            answer, outcome = self._run(request, route, call, failure)
            if outcome is not None:
                executed = True
                kept.answer = outcome
        finally:
            if not executed:
                sandbox.idempotency.release(account, key, kept)
        if answer is None:
            return None
        return answer.with_headers({"Idempotency-Key": key, "Original-Request": request.id})

    def _run(
        self, request: "_Request", route: Route, call: Call, failure: Fault | None
    ) -> tuple[Answer | None, Answer | None]:
        """The answer to send (None: hang up), and the one to keep (None: nothing was executed)."""
        kind = None if failure is None else failure.kind
        if kind == "drop_before":
            return None, None
        if failure is not None and kind == "error_before":
            raise failure.refusal()
        outcome: Answer | None
        try:
            with self._sandbox.events.caused_by(Cause(request.id, request.idempotency_key)):
                result = route.handle(call)
            result = self._sandbox.expander.expand(result, call.params.get("expand") or ())
            outcome = Answer(200, _dump(result), _verdict(request, 200))
            answer = outcome
        except ApiError as refusal:
            answer = _error_answer(refusal, request)
            outcome = answer if refusal.executed else None
        except Exception:
            # A defect of the sandbox itself: shown as Stripe shows its own, traced in the log.
            logger.exception("api.defect method=%s path=%s", request.method, request.path)
            answer = outcome = _error_answer(
                ApiError(500, "The sandbox failed; see its log.", type="api_error"), request
            )
        if failure is not None and kind == "error_after":
            # The work is done, yet this key's answer is a 500 from now on.
            answer = outcome = _error_answer(failure.refusal(), request)
        return (None if kind == "drop_after" else answer), outcome

    def _raw_params(self, request: "_Request", query: bytes, body: bytes) -> dict[str, Any]:
        text = query.decode("latin-1")
        if request.method == "POST" and body:
            content_type = request.headers.get("content-type", _FORM)
            if not content_type.startswith(_FORM):
                raise ApiError(
                    400,
                    "Invalid request (check that your POST content type is "
                    f"{_FORM}). If you have any questions, we can help at "
                    "https://support.stripe.com/.",
                    executed=False,
                )
            text = "&".join(filter(None, (text, body.decode("latin-1"))))
        return decode(text)

    def _remember(self, request: "_Request", raw: dict[str, Any]) -> RequestRecord:
        request.record = self._sandbox.requests.add(
            request_id=request.id,
            method=request.method,
            path=request.path,
            params=raw,
            idempotency_key=request.idempotency_key,
            created=self._sandbox.clock.now(),
        )
        return request.record


class _Request:
    """What is known of a request before it is understood."""

    __slots__ = ("headers", "id", "idempotency_key", "method", "path", "record")

    def __init__(self, id: str, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.id = id
        self.method = method
        self.path = path
        self.headers = headers
        key = headers.get("idempotency-key") if method == "POST" else None
        self.idempotency_key = key or None
        self.record: RequestRecord | None = None


def _authenticate(header: str | None) -> bool:
    """Whether the key is a publishable one (https://docs.stripe.com/api/authentication)."""
    scheme, _, credentials = (header or "").partition(" ")
    key = credentials.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key, validate=True).decode("latin-1").partition(":")[0]
        except binascii.Error as error:
            raise no_api_key() from error
    elif scheme.lower() != "bearer":
        raise no_api_key()
    if not key:
        raise no_api_key()
    if not _KEY.fullmatch(key):
        raise invalid_api_key(key)
    return key.startswith(_PUBLISHABLE_PREFIX)


def _verdict(request: _Request, status: int) -> dict[str, str]:
    """Stripe says not to retry what is settled; of other failures it says nothing here."""
    if request.method == "POST" and status not in (409, 429) and status < 500:
        return {"Stripe-Should-Retry": "false"}
    return {}


def _error_answer(refusal: ApiError, request: _Request) -> Answer:
    headers = {**_verdict(request, refusal.status), **refusal.headers}
    if request.idempotency_key is not None:
        headers["Idempotency-Key"] = request.idempotency_key
        headers["Original-Request"] = request.id
    return Answer(refusal.status, _dump(refusal.body(request.id)), headers)


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
