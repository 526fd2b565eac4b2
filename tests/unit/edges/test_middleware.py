"""The request's id, its log line and metrics, and the answers of last resort."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics
from app.middleware import ErrorBoundaryMiddleware, RequestContextMiddleware
from app.observability import current_request_id

# As in conftest.py: the limit of the app that the client talks to, and the allowed origin.
MAX_BODY_BYTES = 2000
ORIGIN = "https://shop.example"
JSON = {"Content-Type": "application/json"}

Answer = list[Message]


async def call(
    app: ASGIApp,
    path: str = "/",
    method: str = "GET",
    messages: tuple[Message, ...] = ({"type": "http.request", "body": b"", "more_body": False},),
) -> Answer:
    """One request at the level of ASGI; the caller hangs up after ``messages``."""
    incoming = iter(messages)
    sent: Answer = []

    async def receive() -> Message:
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of(path, method), receive, send)
    return sent


def scope_of(path: str, method: str = "GET") -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"payment.test"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("payment.test", 80),
    }


def sample(metrics: Metrics, line_start: str) -> float:
    """The value of the one exposed series that begins with ``line_start``; 0 when there is none."""
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith(line_start)]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


async def test_well_formed_request_id_is_kept(client: httpx.AsyncClient) -> None:
    for request_id in ("abc", "A.b-C_9", "x" * 128):
        response = await client.get("/api/v1/request-id", headers={"X-Request-ID": request_id})
        assert response.headers["X-Request-ID"] == request_id
        assert response.json() == {"state": request_id, "context": request_id}


@pytest.mark.parametrize(
    "bad", ["", "x" * 129, "a b", "a\tb", "a/b", "a;b", "é", '{"a":1}', "${x}"]
)
async def test_malformed_request_id_is_replaced(client: httpx.AsyncClient, bad: str) -> None:
    response = await client.get("/api/v1/request-id", headers={b"X-Request-ID": bad.encode()})
    made = response.headers["X-Request-ID"]
    assert made != bad
    assert len(made) == 32
    assert response.json()["context"] == made


async def test_line_break_in_a_request_id_is_refused_even_past_the_server(app: FastAPI) -> None:
    scope = scope_of("/api/v1/request-id")
    scope["headers"].append((b"x-request-id", b"abc\n"))
    sent: Answer = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert dict(sent[0]["headers"])[b"x-request-id"] != b"abc\n"


async def test_every_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    paths = ["/api/v1/request-id"] * 20
    answers = await asyncio.gather(*(client.get(path) for path in paths))
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert len(set(ids)) == 20
    assert [answer.json()["context"] for answer in answers] == ids


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("DELETE", "/api/v1/orders"),
        ("POST", "/api/v1/orders"),
        ("GET", "/api/v1/payment/pay_1"),
        ("GET", "/api/v1/whoami"),
        ("GET", "/api/v1/fails/unforeseen"),
        ("GET", "/api/v1/fails/timeout"),
    ],
)
async def test_every_answer_has_one_id_and_is_not_cached(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, path, headers={"X-Request-ID": "mine"})
    assert response.headers.get_list("X-Request-ID") == ["mine"]
    assert response.headers.get_list("Cache-Control") == ["no-store"]


async def test_preflight_has_an_id_too(client: httpx.AsyncClient) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    response = await client.options("/api/v1/orders", headers=headers)
    assert response.status_code == 200
    assert response.headers["X-Request-ID"]


async def test_answer_keeps_its_own_cache_control_but_not_its_own_id(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/api/v1/cached", headers={"X-Request-ID": "mine"})
    assert response.headers.get_list("Cache-Control") == ["max-age=60"]
    assert response.headers.get_list("X-Request-ID") == ["mine"]


async def test_id_does_not_outlive_its_request(client: httpx.AsyncClient) -> None:
    await client.get("/")
    assert current_request_id() is None


async def test_unforeseen_exception_is_a_bare_500_and_its_trace_is_logged(
    client: httpx.AsyncClient, logs: Any
) -> None:
    response = await client.get("/api/v1/fails/unforeseen", headers={"X-Request-ID": "r-1"})
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:problem:payment:internal_error",
        "title": "Internal error",
        "status": 500,
        "detail": "Something went wrong on our side; the request id finds it in our logs.",
        "code": "internal_error",
        "request_id": "r-1",
    }
    line = logs.only("request.crashed")
    assert (line["level"], line["request_id"]) == ("error", "r-1")
    assert "Traceback" in line["exception"]
    assert "RuntimeError" in line["exception"]
    assert "sk_live_" not in logs.text


async def test_browser_can_read_a_500_and_a_413(client: httpx.AsyncClient) -> None:
    crash = await client.get("/api/v1/fails/unforeseen", headers={"Origin": ORIGIN})
    too_large = await client.post(
        "/api/v1/raw", content=b"x" * (MAX_BODY_BYTES + 1), headers={"Origin": ORIGIN}
    )
    for response, status in ((crash, 500), (too_large, 413)):
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["Access-Control-Expose-Headers"] == "X-Request-ID"


async def test_outermost_middleware_answers_500_for_what_breaks_outside_of_the_boundary(
    logs: Any, metrics: Metrics
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("a middleware's own mistake")

    start, body = await call(RequestContextMiddleware(broken, metrics=metrics))
    assert start["status"] == 500
    assert b"x-request-id" in dict(start["headers"])
    assert json.loads(body["body"])["code"] == "internal_error"
    assert logs.only("request.finished")["status"] == 500
    assert len(logs.named("request.crashed")) == 1


async def test_half_sent_answer_is_cut_off_and_logged_once(app: FastAPI, logs: Any) -> None:
    sent: Answer = []

    async def receive() -> Message:
        await asyncio.sleep(10)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="the other half"):
        await app(scope_of("/api/v1/half"), receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["more_body"] is True
    assert len(logs.named("request.crashed")) == 1
    assert logs.only("request.finished")["status"] == 200


async def test_caller_that_hangs_up_while_sending_is_no_error(
    app: FastAPI, logs: Any, metrics: Metrics
) -> None:
    half_a_body: Message = {"type": "http.request", "body": b'{"user', "more_body": True}
    for path in ("/api/v1/raw", "/api/v1/orders"):
        assert await call(app, path, "POST", (half_a_body,)) == []
    lines = logs.named("request.finished")
    assert [line["status"] for line in lines] == [499, 499]
    assert {event["level"] for event in logs.events} <= {"info", "debug"}
    assert sample(metrics, "http_requests_in_flight") == 0


async def test_cancelled_request_is_counted_and_stays_cancelled(
    logs: Any, metrics: Metrics
) -> None:
    begun = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.sleep(60)

    app = RequestContextMiddleware(
        ErrorBoundaryMiddleware(slow, max_body_bytes=10), metrics=metrics
    )
    task = asyncio.create_task(call(app))
    await begun.wait()
    assert sample(metrics, "http_requests_in_flight") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sample(metrics, "http_requests_in_flight") == 0
    assert logs.only("request.finished")["status"] == 499
    assert logs.named("request.crashed") == []


async def test_disconnect_after_the_answer_began_keeps_its_status(
    logs: Any, metrics: Metrics
) -> None:
    async def interrupted(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ClientDisconnect

    await call(RequestContextMiddleware(interrupted, metrics=metrics))
    assert logs.only("request.finished")["status"] == 200


async def test_application_without_an_answer_counts_as_500(logs: Any, metrics: Metrics) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None: ...

    assert await call(RequestContextMiddleware(silent, metrics=metrics)) == []
    assert logs.only("request.finished")["status"] == 500


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_protocols_pass_through(metrics: Metrics, kind: str) -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {"type": f"{kind}.startup"}

    async def send(message: Message) -> None: ...

    scope: Scope = {"type": kind}
    app = RequestContextMiddleware(
        ErrorBoundaryMiddleware(inner, max_body_bytes=1), metrics=metrics
    )
    await app(scope, receive, send)
    assert seen == [{"type": kind}]


async def test_state_of_the_lifespan_is_kept(metrics: Metrics) -> None:
    seen: list[dict[str, Any]] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"])

    async def unused(*_: Any) -> Any: ...

    scope = scope_of("/")
    scope["state"] = {"clients": "theirs"}
    await RequestContextMiddleware(inner, metrics=metrics)(scope, unused, unused)
    assert seen[0]["clients"] == "theirs"
    assert len(seen[0]["request_id"]) == 32


async def test_one_line_a_request_tells_the_template_and_not_the_path(
    client: httpx.AsyncClient, logs: Any
) -> None:
    await client.get("/api/v1/payment/pay_secretive?token=t", headers={"X-Request-ID": "r-9"})
    line = logs.only("request.finished")
    assert line["route"] == "/api/v1/payment/{payment_id}"
    assert (line["method"], line["status"], line["level"]) == ("GET", 404, "info")
    assert line["request_id"] == "r-9"
    assert 0 <= line["duration_ms"] < 5000
    assert "token=t" not in logs.text


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/", "/"),
        ("GET", "/api/v1/numbered/7", "/api/v1/numbered/{number}"),
        ("GET", "/api/v1/numbered/x", "/api/v1/numbered/{number}"),
        ("DELETE", "/api/v1/orders", "/api/v1/orders"),
        ("GET", "/api/v1/fails/unforeseen", "/api/v1/fails/{how}"),
        ("GET", "/docs", "/docs"),
        ("GET", "/openapi.json", "/openapi.json"),
        ("GET", "/nowhere/pay_1", "unmatched"),
    ],
)
async def test_metrics_and_logs_go_by_the_template(
    client: httpx.AsyncClient, logs: Any, metrics: Metrics, method: str, path: str, route: str
) -> None:
    response = await client.request(method, path)
    assert logs.only("request.finished")["route"] == route
    labels = f'method="{method}",route="{route}",status="{response.status_code}"'
    assert sample(metrics, f"http_requests_total{{{labels}}}") == 1
    duration = f'http_request_duration_seconds_count{{method="{method}",route="{route}"}}'
    assert sample(metrics, duration) == 1
    assert "pay_1" not in metrics.render().decode()


async def test_router_included_in_a_router_has_its_whole_prefix(
    client: httpx.AsyncClient, app: FastAPI, logs: Any
) -> None:
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")

    @inner.get("/{thing_id}")
    @inner.get("/{thing_id}/again")
    async def thing(thing_id: str) -> str:
        return thing_id

    outer.include_router(inner, prefix="/deep")
    app.include_router(outer, prefix="/api/v2")
    await client.get("/api/v2/outer/deep/inner/7")
    await client.get("/api/v2/outer/deep/inner/7/again")
    assert [line["route"] for line in logs.named("request.finished")] == [
        "/api/v2/outer/deep/inner/{thing_id}",
        "/api/v2/outer/deep/inner/{thing_id}/again",
    ]


async def test_probes_and_scrapes_are_logged_at_debug(client: httpx.AsyncClient, logs: Any) -> None:
    for path in ("/api/v1/health/live", "/metrics"):
        assert (await client.get(path)).status_code == 200
    assert [line["level"] for line in logs.named("request.finished")] == ["debug", "debug"]


async def test_invented_methods_share_one_series(
    client: httpx.AsyncClient, metrics: Metrics
) -> None:
    for number in range(5):
        await client.request(f"BREW{number}", "/nowhere")
    labels = 'method="other",route="unmatched",status="404"'
    assert sample(metrics, f"http_requests_total{{{labels}}}") == 5


async def test_request_in_flight_is_counted_until_it_ends(metrics: Metrics) -> None:
    seen: list[float] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(sample(metrics, "http_requests_in_flight"))

    await call(RequestContextMiddleware(inner, metrics=metrics))
    assert seen == [1]
    assert sample(metrics, "http_requests_in_flight") == 0


async def chunked(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 100):
        yield b"x" * 100
    yield b"x" * (total % 100)


BODIES: list[Callable[[int], Any]] = [lambda size: b"x" * size, chunked]


@pytest.mark.parametrize("body", BODIES, ids=["announced", "chunked"])
@pytest.mark.parametrize("path", ["/api/v1/raw", "/api/v1/orders"])
async def test_body_over_the_limit_is_413(
    client: httpx.AsyncClient, path: str, body: Callable[[int], Any]
) -> None:
    response = await client.post(path, content=body(MAX_BODY_BYTES + 1), headers=JSON)
    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "body_too_large"
    assert problem["detail"] == f"The request body may have at most {MAX_BODY_BYTES} bytes."
    assert problem["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("body", BODIES, ids=["announced", "chunked"])
async def test_body_of_just_the_limit_is_read(
    client: httpx.AsyncClient, body: Callable[[int], Any]
) -> None:
    response = await client.post("/api/v1/raw", content=body(MAX_BODY_BYTES))
    assert response.json() == {"length": MAX_BODY_BYTES}


@pytest.mark.parametrize("announced", [b"11", b"9" * 30, b"9" * 5000])
async def test_announced_body_over_the_limit_is_refused_unread(logs: Any, announced: bytes) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("must not be reached")

    async def receive() -> Message:
        raise AssertionError("must not be read")

    sent: Answer = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = scope_of("/", "POST")
    scope["headers"].append((b"content-length", announced))
    await ErrorBoundaryMiddleware(inner, max_body_bytes=10)(scope, receive, send)
    assert sent[0]["status"] == 413


async def test_limit_met_outside_of_fastapi_is_413_too(logs: Any) -> None:
    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def late_reader(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    body: Message = {"type": "http.request", "body": b"x" * 11, "more_body": False}
    [start, _] = await call(ErrorBoundaryMiddleware(reader, max_body_bytes=10), messages=(body,))
    assert start["status"] == 413
    with pytest.raises(Exception, match="at most 10 bytes"):
        await call(ErrorBoundaryMiddleware(late_reader, max_body_bytes=10), messages=(body,))


async def test_unreadable_content_length_is_left_to_the_count(logs: Any) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = scope_of("/", "POST")
    scope["headers"].append((b"content-length", b"1e9"))
    sent: Answer = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await ErrorBoundaryMiddleware(inner, max_body_bytes=10)(scope, receive, send)
    assert sent[0]["status"] == 200
