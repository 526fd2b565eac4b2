"""Every refusal and failure as ``application/problem+json`` (RFC 9457), in one place."""

import json
import re
from collections.abc import Mapping
from http.client import responses as STATUS_PHRASES
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from app.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    InvalidJson,
    NotFound,
    PaymentServiceError,
    Unauthenticated,
    ValidationFailed,
)
from app.observability import cause_of, current_request_id, get_logger

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

# A body can hold thousands of mistakes; a screenful is as many as a caller will read.
_MAX_LISTED_ERRORS = 50
_MAX_FIELD_LENGTH = 200

_CLASS_OF_STATUS: dict[int, type[PaymentServiceError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: BodyTooLarge,
}
_CODE_OF_STATUS = {429: "rate_limited"}
_DETAIL_OF_STATUS = {
    404: "Nothing is served at this path; check the URL.",
    405: "This path does not take this method; the Allow header lists those that it takes.",
    413: "The request body is larger than this service accepts.",
    429: "Too many requests; try again after the time given in Retry-After.",
}


# By pydantic's type of the mistake; the numbers are of its context.
# https://docs.pydantic.dev/latest/errors/validation_errors/
ANY_OTHER: Final = "This value cannot be used here"
_A_WHOLE_NUMBER: Final = "This must be a whole number"
_TRUE_OR_FALSE: Final = "This must be true or false"
_AN_OBJECT: Final = "This must be an object with named fields"
SENTENCES: Final = {
    "missing": "This is required",
    "string_type": "This must be text",
    "string_too_short": "This must have at least {min_length} character{s}",
    "string_too_long": "This may have at most {max_length} character{s}",
    "string_pattern_mismatch": "This holds a character that cannot be used here",
    "string_unicode": "This holds a character that cannot be used here",
    "int_type": _A_WHOLE_NUMBER,
    "int_parsing": _A_WHOLE_NUMBER,
    "int_from_float": _A_WHOLE_NUMBER,
    "int_parsing_size": "This number is too large",
    "greater_than": "This must be more than {gt}",
    "greater_than_equal": "This must be at least {ge}",
    "less_than": "This must be less than {lt}",
    "less_than_equal": "This must be at most {le}",
    "bool_type": _TRUE_OR_FALSE,
    "bool_parsing": _TRUE_OR_FALSE,
    "list_type": "This must be a list",
    "too_short": "This must have at least {min_length} item{s}",
    "too_long": "This may have at most {max_length} item{s}",
    "dict_type": _AN_OBJECT,
    "model_type": _AN_OBJECT,
    "model_attributes_type": _AN_OBJECT,
    "enum": "This must be one of {expected}",
    "literal_error": "This must be one of {expected}",
}


class FieldError(BaseModel):
    """One mistake in a request."""

    field: str = Field(description="Dotted path in the body, or the parameter's name.")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details; facts such as `remaining` are further members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URI that identifies the kind of problem.")
    title: str = Field(description="The same for every problem of this type.")
    status: int
    detail: str = Field(description="A sentence a person can act on.")
    code: str = Field(description="Stable; meant for programs.")
    request_id: str = Field(description="The same as in X-Request-ID; name it to support.")
    errors: list[FieldError] | None = Field(
        default=None, description="With validation_error, and where one item's price is at fault."
    )


class ProblemResponse(Response):
    media_type = MEDIA_TYPE


def type_uri(code: str) -> str:
    """A name, not an address: the same behind every proxy prefix and in every deployment.

    A relative reference would resolve against whatever path the caller used (RFC 9457, 3.1.1
    advises against it), ``about:blank`` would say no more than the status, and an ``https:`` URL
    needs a host that this service does not own.
    """
    return f"urn:problem:payment:{code}"


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    type_: str | None = None,
) -> ProblemResponse:
    """``facts`` become further members; they never replace one of the standard ones."""
    body: dict[str, Any] = {
        "type": type_ or type_uri(code),
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    request_id = current_request_id()
    if request_id is not None:
        body["request_id"] = request_id
    if facts:
        body = {**facts, **body} if not body.keys().isdisjoint(facts) else {**body, **facts}
    return ProblemResponse(
        json.dumps(body, separators=(",", ":")).encode(),
        status_code=status,
        headers=dict(headers) if headers else None,
    )


def problem_of(error: PaymentServiceError) -> ProblemResponse:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(0, error.retry_after))
    if error.replayed:
        headers["Idempotent-Replayed"] = "true"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 11.6.1: a 401 must name a scheme.
    return problem_response(
        error.status, error.code, error.title, error.detail, facts=error.facts, headers=headers
    )


def internal_error_response() -> ProblemResponse:
    """For unexpected exceptions: says nothing of the cause."""
    return problem_of(
        PaymentServiceError(
            "Something went wrong on our side; the request id finds it in our logs."
        )
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Unforeseen exceptions are not handled here but by the middleware, outside of all handlers."""
    # Starlette calls each with its own class only, but types them all as taking any Exception.
    app.add_exception_handler(PaymentServiceError, _on_payment_service_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _on_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_http_exception)  # type: ignore[arg-type]
    _describe_problems(app)


def problem_responses(*errors: type[PaymentServiceError]) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses=``: one entry a status, with an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entry = responses.setdefault(
            error.status,
            {
                "description": STATUS_PHRASES[error.status],
                "content": {
                    MEDIA_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][error.code] = {
            "summary": error.title,
            "value": {
                "type": type_uri(error.code),
                "title": error.title,
                "status": error.status,
                "detail": f"{error.title}.",
                "code": error.code,
                "request_id": "b2f6a1c09d4e4f3c8a7d5e6f70819203",
            },
        }
    return responses


async def _on_payment_service_error(_request: Request, error: PaymentServiceError) -> Response:
    _log(error)
    return problem_of(error)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    refusal = _refusal_of(request, error)
    _log(refusal)
    return problem_of(refusal)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Starlette's and FastAPI's own refusals: no such path, wrong method, unreadable body."""
    status = error.status_code
    if status < 400:
        return Response(status_code=status, headers=error.headers)
    if status == 400 and error.__cause__ is not None:
        # FastAPI could not read the body and wraps whatever stopped it.
        if isinstance(error.__cause__, ClientDisconnect):
            raise error.__cause__
        refusal = _unreadable_body(error.__cause__)
        _log(refusal)
        return problem_of(refusal)
    phrase = STATUS_PHRASES.get(status, "Error")
    detail = str(error.detail)
    if detail == phrase or status in (404, 405):
        detail = _DETAIL_OF_STATUS.get(status, f"{phrase}.")
    known = _CLASS_OF_STATUS.get(status)
    code = known.code if known else _CODE_OF_STATUS.get(status) or _snake_case(phrase)
    headers = dict(error.headers or {})
    if status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if status == 405:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    level = log.info if status < 500 else log.warning
    level("request.refused", status=status, code=code, method=request.method)
    return problem_response(status, code, known.title if known else phrase, detail, headers=headers)


def _methods_of(request: Request) -> set[str]:
    """All that the path takes; Starlette names those of its first route only."""
    return {
        method
        for context in iter_route_contexts(request.app.routes)
        if context.matches(request.scope)[0] is not Match.NONE
        for method in context.methods or ()
    }


def _log(error: PaymentServiceError) -> None:
    """A refusal is business as usual; a dependency's failure warns; a 500 is a bug of ours."""
    if error.status < 500:
        log.info("request.refused", status=error.status, code=error.code, detail=error.detail)
        return
    fields = {
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "cause": cause_of(error),
    }
    if error.status == 500:
        log.error("request.failed", **fields, exc_info=error)
    else:
        log.warning("request.failed", **fields)


def _refusal_of(request: Request, error: RequestValidationError) -> PaymentServiceError:
    mistakes = error.errors()
    first = mistakes[0]
    if first["type"] == "json_invalid":
        position = first["loc"][-1]
        return InvalidJson(
            f"The body is not valid JSON; it cannot be read at character {position}."
        )
    if first["loc"] == ("body",):
        return _not_an_object(request, first["type"])
    errors = [
        {"field": _field_name(mistake["loc"]), "message": message_of(mistake)}
        for mistake in mistakes[:_MAX_LISTED_ERRORS]
    ]
    detail = f"{errors[0]['field']}: {errors[0]['message']}."
    if len(mistakes) > 1:
        detail = f"{len(mistakes)} fields are wrong; the first is {detail}"
    return ValidationFailed(detail, errors=errors)


def _not_an_object(request: Request, kind: str) -> ValidationFailed:
    if kind == "missing":
        message = "A JSON object is required"
    elif "json" not in request.headers.get("content-type", "").lower():
        # FastAPI leaves such a body as bytes, which no model accepts.
        message = "Send a JSON object with the header Content-Type: application/json"
    else:
        message = "The body must be a JSON object"
    return ValidationFailed(f"{message}.", errors=[{"field": "body", "message": message}])


def _unreadable_body(cause: BaseException) -> PaymentServiceError:
    if isinstance(cause, UnicodeDecodeError):
        return InvalidJson("The body is not valid JSON: it is not UTF-8.")
    if isinstance(cause, RecursionError):
        return InvalidJson("The body is not readable JSON: it is nested too deeply.")
    return InvalidJson("The body could not be read as JSON.")


def _field_name(location: tuple[int | str, ...]) -> str:
    parts = location[1:] if location[0] in ("body", "query", "path", "header") else location
    # pydantic marks a key that is wrong itself; a key is the caller's and may hold anything.
    name = ".".join(str(part) for part in parts if part != "[key]")[:_MAX_FIELD_LENGTH]
    return "".join(c if c.isprintable() else "?" for c in name) or str(location[0])


def message_of(mistake: Mapping[str, Any]) -> str:
    """For the person who filled the field in: never the input, a pattern or pydantic's own words
    except in messages of our own validators.
    """
    context = mistake.get("ctx", {})
    if mistake["type"] == "value_error":
        return str(context["error"]).rstrip(".")
    plural = "" if context.get("min_length", context.get("max_length")) == 1 else "s"
    return SENTENCES.get(mistake["type"], ANY_OTHER).format_map({**context, "s": plural})


def _snake_case(phrase: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", phrase.lower()).strip("_")


def _describe_problems(app: FastAPI) -> None:
    """Puts Problem into the OpenAPI document, also in place of FastAPI's own 422.

    FastAPI writes a ``model`` of ``responses=`` down as application/json, so ``problem_responses``
    refers to the schema and this adds it
    (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        ours = problem_responses(ValidationFailed)[422]
        for path in document.get("paths", {}).values():
            for operation in path.values():
                responses = operation.get("responses", {})
                if "HTTPValidationError" in json.dumps(responses.get("422", {})):
                    responses["422"] = ours
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way, see above
