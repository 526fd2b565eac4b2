"""Every failure has the same shape, says what to do, and says nothing that it should not."""

import json
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from pydantic_core.core_schema import ErrorType
from starlette.exceptions import HTTPException

from app.errors import (
    CheckoutSessionNotFound,
    InsufficientCredits,
    PaymentNotFound,
    PaymentServiceError,
    StripeFailed,
    StripeUnavailable,
    Unauthenticated,
)
from app.problems import (
    ANY_OTHER,
    MEDIA_TYPE,
    SENTENCES,
    Problem,
    message_of,
    problem_of,
    problem_response,
    problem_responses,
    type_uri,
)
from tests.support.shop import require_sentence

JSON = {"Content-Type": "application/json"}


def problem_in(response: httpx.Response) -> dict[str, Any]:
    """Checks what every problem has in common."""
    assert response.headers["Content-Type"] == MEDIA_TYPE
    body: dict[str, Any] = response.json()
    Problem.model_validate(body)
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:problem:payment:{body['code']}"
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert body["detail"].endswith(".")
    return body


async def test_refusal_has_every_member_of_the_contract(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/payment/pay_1", headers={"X-Request-ID": "abc"})
    assert problem_in(response) == {
        "type": "urn:problem:payment:payment_not_found",
        "title": "Payment not found",
        "status": 404,
        "detail": "There is no payment pay_1.",
        "code": "payment_not_found",
        "request_id": "abc",
    }


async def test_facts_become_members(client: httpx.AsyncClient) -> None:
    body = problem_in(await client.get("/api/v1/fails/credits"))
    assert (body["required"], body["available"]) == (3, 1)


async def test_facts_never_replace_a_standard_member(client: httpx.AsyncClient) -> None:
    body = problem_in(await client.get("/api/v1/fails/overwrites"))
    assert (body["status"], body["code"], body["required"]) == (402, "insufficient_credits", 1)


async def test_retry_after_is_a_header(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/fails/timeout")
    assert problem_in(response)["code"] == "stripe_timeout"
    assert response.headers["Retry-After"] == "5"
    assert "retry-after" not in (await client.get("/api/v1/fails/credits")).headers


def test_retry_after_is_never_negative() -> None:
    response = problem_of(StripeUnavailable("Busy.", retry_after=-3))
    assert response.headers["Retry-After"] == "0"


def test_stored_refusal_says_that_it_is_replayed() -> None:
    refusal = PaymentNotFound("There is no such payment.")
    assert "Idempotent-Replayed" not in problem_of(refusal).headers
    refusal.replayed = True
    assert problem_of(refusal).headers["Idempotent-Replayed"] == "true"


def test_unauthenticated_names_the_scheme() -> None:
    assert problem_of(Unauthenticated("Sign in.")).headers["WWW-Authenticate"] == "Bearer"


def test_problem_outside_of_a_request_has_no_request_id() -> None:
    body = json.loads(bytes(problem_response(400, "bad_request", "Bad", "Bad.").body))
    assert "request_id" not in body


def test_type_may_be_chosen() -> None:
    response = problem_response(400, "bad_request", "Bad", "Bad.", type_="about:blank")
    assert json.loads(bytes(response.body))["type"] == "about:blank"


def test_lone_surrogate_in_a_detail_is_still_json() -> None:
    response = problem_response(400, "bad_request", "Bad", "\ud800.")
    assert json.loads(bytes(response.body))["detail"] == "\ud800."


async def test_malformed_json_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/orders", content=b'{"user_id": ', headers=JSON)
    assert response.status_code == 400
    assert problem_in(response)["code"] == "invalid_json"


@pytest.mark.parametrize("body", [b"{'a': 1}", b'{"a": 1,}', b"{", b"nope", b'"\x01"'])
async def test_what_is_not_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/api/v1/orders", content=body, headers=JSON)
    assert (response.status_code, problem_in(response)["code"]) == (400, "invalid_json")


async def test_json_that_is_not_utf_8_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/orders", content=b'{"a": "\xff\xfe\xfa"}', headers=JSON)
    assert response.status_code == 400
    body = problem_in(response)
    assert body["code"] == "invalid_json"
    assert "UTF-8" in body["detail"]


async def test_json_nested_too_deeply_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/orders", content=b"[" * 1900, headers=JSON)
    assert (response.status_code, problem_in(response)["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"true", b"null", b"NaN"])
async def test_json_that_is_not_an_object_fails_validation(
    client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/api/v1/orders", content=body, headers=JSON)
    assert response.status_code == 422
    problem = problem_in(response)
    assert problem["code"] == "validation_error"
    assert [error["field"] for error in problem["errors"]] == ["body"]


async def test_missing_body_fails_validation(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/orders")
    assert response.status_code == 422
    assert problem_in(response)["detail"] == "A JSON object is required."


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
)
async def test_other_content_type_is_told_which_one_to_send(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post("/api/v1/orders", content=b'{"user_id": "u"}', headers=headers)
    assert response.status_code == 422
    problem = problem_in(response)
    assert problem["code"] == "validation_error"
    assert "Content-Type: application/json" in problem["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/vnd.api+json"]
)
async def test_json_with_parameters_or_a_suffix_is_read(
    client: httpx.AsyncClient, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = await client.post("/api/v1/orders", content=b'{"user_id": "u"}', headers=headers)
    assert response.status_code == 200


async def test_fields_are_dotted_paths_without_the_leading_body(client: httpx.AsyncClient) -> None:
    order = {"items": [{"book_id": "b", "price_cents": 1}, {"book_id": 5, "price_cents": "7"}]}
    response = await client.post("/api/v1/orders", json=order)
    assert response.status_code == 422
    problem = problem_in(response)
    assert problem["errors"] == [
        {"field": "user_id", "message": "This is required"},
        {"field": "items.1.book_id", "message": "This must be text"},
        {"field": "items.1.price_cents", "message": "This must be a whole number"},
    ]
    assert problem["detail"] == "3 fields are wrong; the first is user_id: This is required."


async def test_parameters_go_by_their_own_name(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/api/v1/two-bodies?limit=101",
        json={"first": 1, "second": "x"},
        headers={"Idempotency-Key": "too long"},
    )
    fields = [error["field"] for error in problem_in(response)["errors"]]
    assert fields == ["limit", "idempotency-key", "second"]
    response = await client.get("/api/v1/numbered/x")
    assert [error["field"] for error in problem_in(response)["errors"]] == ["number"]


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_every_mistake_that_pydantic_knows_is_told_in_plain_words(kind: str) -> None:
    bounds = dict.fromkeys(("ge", "gt", "le", "lt", "min_length", "max_length"), 2)
    context = {**bounds, "expected": "'a' or 'b'", "pattern": r"^[^\x00]+$"}
    context["error"] = ValueError("Write it like this")
    message = message_of({"type": kind, "msg": r"Input should match '^[^\x00]+$'", "ctx": context})
    require_sentence(f"{message}.")
    assert (message != ANY_OTHER) is (kind in {*SENTENCES, "value_error"})


def test_no_sentence_is_for_a_mistake_that_pydantic_does_not_know() -> None:
    assert SENTENCES.keys() <= set(get_args(ErrorType))


@pytest.mark.parametrize(("bound", "words"), [(1, "1 character"), (2, "2 characters")])
def test_one_character_is_not_called_characters(bound: int, words: str) -> None:
    mistake = {"type": "string_too_short", "ctx": {"min_length": bound}}
    assert message_of(mistake) == f"This must have at least {words}"


async def test_one_mistake_is_told_in_the_detail(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/orders", json={"user_id": "u", "password": "p"})
    assert problem_in(response)["detail"] == "password: must not be sent."


async def test_validation_never_echoes_the_input(client: httpx.AsyncClient) -> None:
    secret = "4242-swordfish"
    for order in (
        {"user_id": "u", "password": secret},
        {"user_id": {"is": secret}},
        {"user_id": "u", "items": [{"book_id": "b", "price_cents": secret}]},
        {"user_id": "u", "items": secret},
        secret,
        [secret],
    ):
        response = await client.post("/api/v1/orders", json=order)
        assert response.status_code == 422
        assert "swordfish" not in response.text
    response = await client.post("/api/v1/orders", content=f"{{{secret}}}", headers=JSON)
    assert response.status_code == 400
    assert "swordfish" not in response.text


async def test_list_of_mistakes_is_bounded(client: httpx.AsyncClient) -> None:
    order = {"user_id": "u", "items": [{}] * 200}
    response = await client.post("/api/v1/orders", json=order)
    problem = problem_in(response)
    assert problem["detail"].startswith("400 fields are wrong")
    assert len(problem["errors"]) == 50


async def test_unknown_path_is_404(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/nowhere")
    assert response.status_code == 404
    assert problem_in(response)["code"] == "not_found"


async def test_wrong_method_is_405_and_keeps_allow(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/v1/orders")
    assert response.status_code == 405
    assert problem_in(response)["code"] == "method_not_allowed"
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (413, "body_too_large"),
        (415, "unsupported_media_type"),
        (418, "i_m_a_teapot"),
        (429, "rate_limited"),
        (501, "not_implemented"),
        (599, "error"),
    ],
)
async def test_any_http_exception_is_a_problem(
    client: httpx.AsyncClient, app: FastAPI, status: int, code: str
) -> None:
    @app.get("/raises")
    async def raises() -> None:
        if status == 599:
            raise HTTPException(status, "Error")
        raise HTTPException(status, headers={"Retry-After": "1"})

    response = await client.get("/raises")
    assert response.status_code == status
    assert problem_in(response)["code"] == code
    assert response.headers.get("Retry-After") == (None if status == 599 else "1")
    assert ("WWW-Authenticate" in response.headers) is (status == 401)


async def test_http_exception_keeps_its_own_sentence(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    @app.get("/raises")
    async def raises() -> None:
        raise HTTPException(403, "The door is closed.")

    assert problem_in(await client.get("/raises"))["detail"] == "The door is closed."


async def test_not_modified_has_no_body(client: httpx.AsyncClient, app: FastAPI) -> None:
    @app.get("/raises")
    async def raises() -> None:
        raise HTTPException(304, headers={"ETag": '"1"'})

    response = await client.get("/raises")
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == '"1"'


async def test_refusals_are_logged_at_info(client: httpx.AsyncClient, logs: Any) -> None:
    await client.get("/api/v1/payment/pay_1")
    line = logs.only("request.refused")
    assert (line["level"], line["code"], line["status"]) == ("info", "payment_not_found", 404)


async def test_failures_of_a_dependency_are_logged_as_warnings_with_their_cause(
    client: httpx.AsyncClient, logs: Any
) -> None:
    await client.get("/api/v1/fails/timeout")
    line = logs.only("request.failed")
    assert (line["level"], line["code"]) == ("warning", "stripe_timeout")
    assert line["cause"].startswith("TimeoutError: read timed out")
    assert "sk_test_" not in logs.text


async def test_our_own_500_is_logged_as_an_error_with_its_trace(
    client: httpx.AsyncClient, logs: Any
) -> None:
    response = await client.get("/api/v1/fails/ours")
    assert problem_in(response)["code"] == "internal_error"
    line = logs.only("request.failed")
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]


def test_documented_responses_are_grouped_by_status() -> None:
    responses = problem_responses(
        PaymentNotFound, CheckoutSessionNotFound, StripeFailed, InsufficientCredits
    )
    assert list(responses) == [404, 502, 402]
    [(media_type, content)] = responses[404]["content"].items()
    assert media_type == MEDIA_TYPE
    assert list(content["examples"]) == ["payment_not_found", "checkout_session_not_found"]
    example = content["examples"]["payment_not_found"]["value"]
    assert Problem.model_validate(example).type == type_uri("payment_not_found")


def test_openapi_describes_problems_and_nothing_of_fastapis_own_422(app: FastAPI) -> None:
    document = app.openapi()
    schemas = document["components"]["schemas"]
    assert set(Problem.model_fields) == set(schemas["Problem"]["properties"])
    assert "FieldError" in schemas
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert "#/$defs/" not in text
    numbered = document["paths"]["/api/v1/numbered/{number}"]["get"]["responses"]
    assert list(numbered["422"]["content"]) == [MEDIA_TYPE]
    assert app.openapi() is document


def test_type_of_every_error_is_a_valid_urn() -> None:
    def every(base: type[PaymentServiceError]) -> set[type[PaymentServiceError]]:
        return {base}.union(*(every(child) for child in base.__subclasses__()))

    for error in every(PaymentServiceError):
        scheme, namespace, rest = type_uri(error.code).split(":", 2)
        assert (scheme, namespace) == ("urn", "problem")
        assert rest.replace("_", "").replace(":", "").isalnum()
