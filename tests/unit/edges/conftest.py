"""A small FastAPI app with all the edges on it, and the log lines that it writes."""

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from app.auth import Caller, CallerVerifier, current_caller
from app.errors import (
    DatabaseUnavailable,
    InsufficientCredits,
    PaymentNotFound,
    PaymentServiceError,
    StripeTimeout,
    ValidationFailed,
)
from app.metrics import Metrics
from app.middleware import ErrorBoundaryMiddleware, RequestContextMiddleware
from app.observability import configure_logging, current_request_id
from app.problems import install_problem_handlers, problem_responses
from app.settings import Settings, load_settings

MAX_BODY_BYTES = 2000
ORIGIN = "https://shop.example"


class LogLines:
    """What was written, one parsed JSON object a line."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]

    def only(self, event: str) -> dict[str, Any]:
        [found] = self.named(event)
        return found


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Puts the process's logging back as it was."""
    root = logging.getLogger()
    names = ["uvicorn", "uvicorn.error", "uvicorn.access", "stripe", "pymongo", "aiohttp", "httpx"]
    names += ["httpcore", "urllib3", "asyncio", "fastapi"]
    loggers = [root, *(logging.getLogger(name) for name in names)]
    before = [(each.level, list(each.handlers), each.propagate, each.disabled) for each in loggers]
    yield
    for logger, (level, handlers, propagate, disabled) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate, logger.disabled = propagate, disabled
    structlog.reset_defaults()


@pytest.fixture
def logs(restored_logging: None) -> LogLines:
    stream = io.StringIO()
    configure_logging("DEBUG", json=True, stream=stream)
    return LogLines(stream)


@pytest.fixture
def settings_with() -> Callable[..., Settings]:
    def build(**values: Any) -> Settings:
        return load_settings(_env_file=None, **values)

    return build


class Item(BaseModel):
    book_id: str
    price_cents: int = Field(strict=True, ge=0)


class Order(BaseModel):
    model_config = ConfigDict(extra="ignore")

    user_id: str
    items: list[Item] = []
    password: str = ""

    @field_validator("password")
    @classmethod
    def _refuse(cls, value: str) -> str:
        if value:
            raise ValueError("must not be sent.")
        return value


router = APIRouter()


@router.post("/orders", responses=problem_responses(ValidationFailed, InsufficientCredits))
async def create_order(order: Order) -> dict[str, str]:
    return {"user_id": order.user_id}


@router.post("/two-bodies")
async def two_bodies(
    first: Annotated[int, Body()],
    second: Annotated[int, Body()],
    limit: Annotated[int, Query(le=100)] = 50,
    idempotency_key: Annotated[str, Header(max_length=5)] = "",
) -> None: ...


@router.get(
    "/payment/{payment_id}", responses=problem_responses(PaymentNotFound, DatabaseUnavailable)
)
async def get_payment(payment_id: str) -> None:
    raise PaymentNotFound(f"There is no payment {payment_id}.")


@router.get("/numbered/{number}")
async def numbered(number: int) -> dict[str, int]:
    return {"number": number}


@router.get("/fails/{how}")
async def fails(how: str) -> None:
    if how == "credits":
        raise InsufficientCredits("You have 1 of 3 credits.", required=3, available=1)
    if how == "timeout":
        try:
            raise TimeoutError("read timed out with sk_test_abcdef1234567890")
        except TimeoutError as error:
            raise StripeTimeout("Stripe did not answer.", retry_after=5) from error
    if how == "ours":
        raise PaymentServiceError("An invariant does not hold.")
    if how == "overwrites":
        raise InsufficientCredits("No.", status=200, code="fine", required=1)
    raise RuntimeError("token sk_live_abcdef1234567890 leaked")


@router.get("/half")
async def half() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half an "
        raise RuntimeError("the other half")

    return StreamingResponse(chunks())


@router.get("/request-id")
async def request_id(request: Request) -> dict[str, str | None]:
    return {"state": request.state.request_id, "context": current_request_id()}


@router.get("/cached")
async def cached() -> Response:
    return PlainTextResponse("x", headers={"Cache-Control": "max-age=60", "X-Request-ID": "own"})


@router.post("/raw")
async def raw(request: Request) -> dict[str, int]:
    return {"length": len(await request.body())}


@router.get("/whoami")
async def whoami(caller: Annotated[Caller, Depends(current_caller)]) -> dict[str, str | None]:
    return {"user_id": caller.user_id, "role": caller.role}


@router.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "alive"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3")


@pytest.fixture
def app(metrics: Metrics, settings_with: Callable[..., Settings]) -> FastAPI:
    app = FastAPI()
    app.state.caller_verifier = CallerVerifier(
        settings_with(environment="test", internal_service_key="internal-key-of-the-tests")
    )
    app.include_router(router, prefix="/api/v1")

    @app.get("/")
    async def banner() -> dict[str, str]:
        return {}

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.render())

    install_problem_handlers(app)
    app.add_middleware(ErrorBoundaryMiddleware, max_body_bytes=MAX_BODY_BYTES)
    app.add_middleware(
        CORSMiddleware, allow_origins=[ORIGIN], expose_headers=["X-Request-ID"], allow_methods="*"
    )
    app.add_middleware(RequestContextMiddleware, metrics=metrics)
    return app


@pytest.fixture
async def client(app: FastAPI, logs: LogLines) -> AsyncIterator[httpx.AsyncClient]:
    """Exceptions of the application reach the test: none may leave it unless a test says so."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://payment.test") as client:
        yield client
