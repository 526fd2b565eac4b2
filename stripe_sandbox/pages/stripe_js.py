"""Stripe.js for browsers, at the addresses of the real one, and the iframes of its Elements."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from stripe_sandbox.pages.checkout_form import DELAYED
from stripe_sandbox.pages.templating import render

STATIC: Final = Path(__file__).with_name("static")

ELEMENTS: Final = ("payment", "card")

_SCRIPT_HEADERS: Final = {
    # Pages of every origin load it, those that are isolated from other origins included.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
_ELEMENT_HEADERS: Final = {
    "Cache-Control": "no-store",
    # No frame-ancestors: any shop may show an Element.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def stripe_js(request: Request) -> Response:
    """https://js.stripe.com/v3/ and, since 2025, https://js.stripe.com/{release}/stripe.js."""
    return FileResponse(STATIC / "stripe.js", media_type="text/javascript", headers=_SCRIPT_HEADERS)


async def element(request: Request) -> Response:
    type = request.path_params["type"]
    if type not in ELEMENTS:
        return render("not_found.html", status=404)
    return render("element.html", headers=_ELEMENT_HEADERS, type=type, delayed=DELAYED)


def browser_routes() -> list[BaseRoute]:
    return [
        Route("/v3", stripe_js, methods=["GET"]),
        Route("/v3/", stripe_js, methods=["GET"]),
        Route("/{release}/stripe.js", stripe_js, methods=["GET"]),
        Route("/elements/{type}", element, methods=["GET"]),
        Mount("/assets", StaticFiles(directory=STATIC)),
    ]
