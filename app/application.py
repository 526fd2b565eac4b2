"""create_app: the lifespan, the middleware, the routes and what answers errors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from app import __version__
from app.auth import CallerVerifier
from app.dependencies import DatabaseConnector, open_services
from app.domain.clock import Clock, utc_now
from app.gateways.stripe import StripeConnector, connect_stripe
from app.metrics import Metrics
from app.middleware import ErrorBoundaryMiddleware, RequestContextMiddleware
from app.observability import get_logger
from app.problems import install_problem_handlers
from app.repositories.database import connect as connect_databases
from app.routers import (
    BASE_PATH,
    checkout,
    config,
    credits,
    health,
    intents,
    payments,
    refunds,
    root,
    webhooks,
)
from app.settings import Settings

EXPOSED_HEADERS: Final = ["Idempotent-Replayed", "Retry-After", "X-Request-ID"]

DESCRIPTION: Final = """\
Payments for a shop that sells books: Stripe Elements, Stripe's hosted
Checkout, and account credits.

Amounts are integers in the currency's smallest unit, times are UTC. Every failure is
`application/problem+json` (RFC 9457) with a stable `code`. Every POST but the webhook takes an
`Idempotency-Key`: the same key with the same request has one effect and one answer for 24 hours.
"""

log = get_logger(__name__)

_ROUTES: Final = APIRouter()
"""Made once a process: what differs between applications is in their ``state``. FastAPI's caches
keep every endpoint, so an endpoint that is a closure would keep its whole application alive.
"""
_ROUTES.include_router(root.router)
for _module in (health, config, intents, checkout, credits, payments, refunds, webhooks):
    _ROUTES.include_router(_module.router, prefix=BASE_PATH)


def create_app(
    settings: Settings,
    *,
    connect: DatabaseConnector = connect_databases,
    connect_stripe: StripeConnector = connect_stripe,
    clock: Clock = utc_now,
) -> FastAPI:
    """``connect`` opens the databases, ``connect_stripe`` the way to Stripe; tests and the sandbox
    pass their own.

    Raises ConfigurationError when a key for verifying callers cannot be read.
    """
    metrics = Metrics(version=__version__, stripe_mode=settings.mode)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, metrics, connect, clock, connect_stripe) as services:
            app.state.services = services
            async with _running(services.reconciliation.run_for_ever, settings):
                log.info(
                    "service.started",
                    version=__version__,
                    environment=settings.environment.value,
                    stripe_mode=settings.mode,
                )
                yield
        log.info("service.stopped")

    app = FastAPI(
        title="Audiobooker payment service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        routes=[*_ROUTES.routes, *(root.docs_router.routes if settings.serves_docs else ())],
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.serves_docs else None,
        # A redirect would name this service's own path, which is another one behind the API proxy.
        redirect_slashes=False,
        # Its log records would hold exception messages, which our own log redacts first.
        telemetry={"logs": False},
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.caller_verifier = CallerVerifier(settings)

    app.add_middleware(ErrorBoundaryMiddleware, max_body_bytes=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestContextMiddleware, metrics=metrics)
    install_problem_handlers(app)

    if settings.serves_docs:
        app.mount(root.DOCS_FILES_PATH, StaticFiles(directory=root.DOCS_FILES))
    return app


@contextlib.asynccontextmanager
async def _running(
    timer: Callable[[float], Awaitable[None]], settings: Settings
) -> AsyncIterator[None]:
    """The reconciler's timer, stopped before the pools close."""
    interval = settings.reconcile_interval_seconds
    if not interval:
        yield
        return
    task = asyncio.ensure_future(timer(interval))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
