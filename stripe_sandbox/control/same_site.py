"""Keeps pages of other sites from pressing the control API's buttons.

Any page that a developer visits can post to a port of the developer's machine. A browser says where
such a request comes from (https://fetch.spec.whatwg.org/#origin-header and
https://w3c.github.io/webappsec-fetch-metadata/#sec-fetch-site-header); curl and test programs say
nothing and are let through.
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from stripe_sandbox.protocol.errors import ApiError

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def refuse_other_sites(request: Request, public_url: str) -> None:
    """Raises ApiError 403, or 415 for what a form could have sent."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        return
    if site not in (None, "same-origin", "none") or not _is_own(origin, request, public_url):
        raise ApiError(403, "The control API takes no requests from pages of other origins.")
    kind = request.headers.get("content-type", "")
    if kind and not kind.lower().startswith("application/json"):
        raise ApiError(415, "From a browser the control API takes application/json only.")


def _is_own(origin: str | None, request: Request, public_url: str) -> bool:
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        # A name that somebody else made point here is not ours, though Host and Origin agree.
        ours = parts.hostname in (*_LOOPBACK, urlsplit(public_url).hostname)
    except ValueError:
        return False
    return ours and parts.netloc.lower() == request.headers.get("host", "").lower()
