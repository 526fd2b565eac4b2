"""One request of the control API, its JSON body taken field by field."""

import json
from typing import Any

from starlette.requests import Request

from stripe_sandbox.protocol.errors import ApiError, invalid_param
from stripe_sandbox.sandbox import Sandbox

_UNSET: Any = object()


class Control:
    """``take`` each field that the route knows, then call ``done``: only then does anything happen.

    Raises ApiError 400 for a field that is missing, of another type, or unknown.
    """

    def __init__(self, sandbox: Sandbox, request: Request, body: dict[str, Any]) -> None:
        self.sandbox = sandbox
        self.id: str = request.path_params.get("id", "")
        self.query = request.query_params
        self._body = body

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = _UNSET) -> Any:
        value = self._body.pop(name, None)
        if value is None:
            if default is _UNSET:
                raise invalid_param(f"Missing required param: {name}.", name, "parameter_missing")
            return default
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            names = " or ".join(k.__name__ for k in allowed)
            raise invalid_param(f"Invalid {name}: must be {names}", name)
        return value

    def take_nullable(self, name: str, kind: type, default: Any) -> Any:
        """An explicit null is a value of its own here, not the same as a missing field."""
        if name in self._body and self._body[name] is None:
            return self._body.pop(name)
        return self.take(name, kind, default)

    def take_texts(self, name: str) -> dict[str, str]:
        """A JSON object of strings, empty by default."""
        texts: dict[str, str] = self.take(name, dict, {})
        if not all(isinstance(text, str) for text in texts.values()):
            raise invalid_param(f"Invalid {name}: every value must be a string", name)
        return texts

    def done(self) -> None:
        """Refuse any field left in the body: a misspelled one must not pass for a setting."""
        if self._body:
            names = ", ".join(self._body)
            raise invalid_param(f"Received unknown parameters: {names}", next(iter(self._body)))


async def read_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    return body
