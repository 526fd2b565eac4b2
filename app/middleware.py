"""Pure ASGI middleware: the request's id, its log line and metrics, and answers of last resort."""

import asyncio
import re
import time
import uuid
from collections.abc import Collection

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge
from app.metrics import Metrics
from app.observability import get_logger, reset_request_id, set_request_id
from app.problems import internal_error_response, problem_of

log = get_logger(__name__)

UNMATCHED = "unmatched"
# nginx's number for a caller that closed the connection before an answer; never sent to anyone.
CLIENT_CLOSED_REQUEST = 499

_WELL_FORMED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_HEADER = b"x-request-id"
_CACHE_CONTROL_HEADER = b"cache-control"
_NO_STORE = (_CACHE_CONTROL_HEADER, b"no-store")


class RequestContextMiddleware:
    """To be added last, so that it is the outermost: nothing is answered without an id.

    ``quiet_routes`` are logged at debug: probes and scrapes would otherwise fill the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        quiet_routes: Collection[str] = ("/metrics",),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._quiet_routes = frozenset(quiet_routes)
        self._routes = _RouteTemplates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        id_header = (_REQUEST_ID_HEADER, request_id.encode("ascii"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _completed(message.get("headers", ()), id_header)
            elif scope["method"] == "HEAD":
                # RFC 9110, 9.3.2: the headers of GET, Content-Length too, and never a body.
                message["body"] = b""
            await send(message)

        token = set_request_id(request_id)
        self._metrics.request_started()
        started_at = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            status = status or CLIENT_CLOSED_REQUEST
            raise
        except Exception:
            # What broke outside of ErrorBoundaryMiddleware, or when half an answer was out.
            log.exception("request.crashed", method=scope["method"])
            if status:
                # Half an answer is out: only a cut connection tells the caller so.
                raise
            await internal_error_response()(scope, receive, send_with_id)
        finally:
            self._finish(scope, status, time.perf_counter() - started_at)
            reset_request_id(token)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], self._routes.template_of(scope)
        # An application that returns without an answer leaves the server to make it a 500.
        status = status or 500
        self._metrics.request_finished(method, route, status, seconds)
        quiet = route in self._quiet_routes or "/health" in route
        (log.debug if quiet else log.info)(
            "request.finished",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
        )


class ErrorBoundaryMiddleware:
    """To be added first, so that it is the innermost: what no handler can answer is answered here.

    Being inside of the CORS middleware, its answers can be read by a browser. It bounds the body
    too: FastAPI's ``max_body_size`` acts outside of all middleware and answers in plain text.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced_length(scope) > self._max_body_bytes:
            await self._refuse_body(scope, receive, send)
            return
        received = 0
        has_started = False

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_body_bytes:
                    raise _BodyLimitExceeded(self._max_body_bytes)
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive_within_limit, send_and_note)
        except ClientDisconnect:
            raise
        except _BodyLimitExceeded:
            if has_started:
                raise
            await self._refuse_body(scope, receive, send)
        except Exception:
            # Answered here, inside of CORS, so that a browser may read the 500 as well.
            if has_started:
                raise
            log.exception("request.crashed", method=scope["method"])
            await internal_error_response()(scope, receive, send)

    async def _refuse_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = BodyTooLarge(_limit_sentence(self._max_body_bytes))
        log.info("request.refused", status=refusal.status, code=refusal.code)
        await problem_of(refusal)(scope, receive, send)


class _BodyLimitExceeded(HTTPException):
    """An HTTPException, because FastAPI turns anything else that stops it reading into a 400."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, _limit_sentence(limit))


class _RouteTemplates:
    """The full template of the matched route.

    ``scope["route"].path`` is not enough: FastAPI leaves out the prefix that ``include_router``
    gave. Routes of Starlette itself (``/docs``) are told by their endpoint.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, str] | None = None

    def template_of(self, scope: Scope) -> str:
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return UNMATCHED
        if self._by_id is None:
            self._by_id = self._read(scope)
        route = scope.get("route")
        return self._by_id.get(id(route)) or self._by_id.get(id(endpoint)) or UNMATCHED

    @staticmethod
    def _read(scope: Scope) -> dict[int, str]:
        templates: dict[int, str] = {}
        for context in iter_route_contexts(scope["app"].routes):
            template = context.path_format
            if template is not None:
                templates[id(context.original_route)] = template
                templates.setdefault(id(context.endpoint), template)
        return templates


def _request_id_of(scope: Scope) -> str:
    """The caller's when it is well-formed: it ends up in logs and headers."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID_HEADER:
            if _WELL_FORMED_ID.fullmatch(value):
                return str(value, "ascii")
            break
    return uuid.uuid4().hex


def _completed(
    headers: Collection[tuple[bytes, bytes]], id_header: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    completed = []
    has_cache_control = False
    for header in headers:
        name = header[0].lower()
        if name == _REQUEST_ID_HEADER:
            continue
        if name == _CACHE_CONTROL_HEADER:
            has_cache_control = True
        completed.append(header)
    completed.append(id_header)
    if not has_cache_control:
        completed.append(_NO_STORE)
    return completed


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            # A longer number is too large either way, and int() refuses very long ones.
            return int(value[:18]) if value.isdigit() else 0
    return 0


def _limit_sentence(limit: int) -> str:
    return f"The request body may have at most {limit} bytes."
