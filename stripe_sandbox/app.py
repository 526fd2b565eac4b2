"""The ASGI application: the API on the hot path, pages and control API behind it."""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from stripe_sandbox.api.endpoint import StripeApi
from stripe_sandbox.control.routes import control_routes
from stripe_sandbox.pages.checkout import page_routes
from stripe_sandbox.pages.dashboard import Dashboard, dashboard_routes
from stripe_sandbox.pages.stripe_js import browser_routes
from stripe_sandbox.sandbox import Sandbox

_API = ("/v1/", "/v2/")
"""Nothing is under v2; a caller is told so in the shape that its SDK reads."""


class SandboxApp:
    """The API gets its requests directly; the rest, and the lifespan, go to Starlette."""

    def __init__(self, sandbox: Sandbox, api: ASGIApp, site: ASGIApp, dashboard: Dashboard) -> None:
        self.sandbox = sandbox
        self._api = api
        self._site = site
        self._dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_API):
            await self._api(scope, receive, send)
        else:
            await self._site(scope, receive, send)

    def stop_streams(self) -> None:
        """For a server that stops: ends the answers that would go on for ever."""
        self._dashboard.stop_streams()


def create_app(sandbox: Sandbox) -> SandboxApp:
    """Its lifespan starts and stops the sandbox's workers."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sandbox:
            yield

    dashboard = Dashboard(sandbox)
    site = Starlette(
        routes=[
            Mount("/_sandbox", routes=control_routes(sandbox)),
            *page_routes(sandbox),
            *dashboard_routes(dashboard),
            *browser_routes(),
        ],
        lifespan=lifespan,
    )
    return SandboxApp(sandbox, StripeApi(sandbox), site, dashboard)
