"""The pages' templates. Everything that is filled in is escaped."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.responses import HTMLResponse, Response

from stripe_sandbox.protocol.money import display

PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    # No form-action: it would also forbid the redirect to the merchant's success page.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src https: data:; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
BANK_PAGE_HEADERS: Final = {
    **PAGE_HEADERS,
    # Stripe.js shows them in a frame over the shop's page, whose origin may be any.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "cross-origin",
}

_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _clock(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M:%S")


def _date(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


_TEMPLATES.filters.update(money=display, clock=_clock, date=_date, iso=_iso, pretty=_pretty)


def render(
    template: str, *, status: int = 200, headers: Mapping[str, str] = PAGE_HEADERS, **context: Any
) -> Response:
    html = _TEMPLATES.get_template(template).render(**context)
    return HTMLResponse(html, status, headers=dict(headers))
