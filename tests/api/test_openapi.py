"""The document that describes the API, and where it may be seen."""

import re
from typing import Any, Final

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.routers import BASE_PATH
from tests.support.production import PRODUCTION, connect_embedded
from tests.support.shop import Shop, ok, refused

ROUTES: Final = {
    "get": {
        "/config/publishable-key",
        "/checkout-session/{session_id}",
        "/payment/{payment_id}",
        "/user/{user_id}/payments",
        "/user/{user_id}/orders",
        "/health/",
        "/health/live",
        "/health/ready",
    },
    "post": {
        "/create-payment-intent",
        "/confirm-payment",
        "/create-checkout-session",
        "/pay-with-credits",
        "/payment/{payment_id}/cancel",
        "/refund",
        "/webhook/stripe",
    },
}


@pytest.fixture
async def document(shop: Shop) -> dict[str, Any]:
    return ok(await shop.client.get("/openapi.json"))


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_document_has_the_routes_of_the_contract_and_no_others(document: dict[str, Any]) -> None:
    found = {(method, path) for method, path, _ in operations(document)}
    expected = {(method, BASE_PATH + path) for method, paths in ROUTES.items() for path in paths}
    assert found == expected


def test_every_route_says_what_it_is_for(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"].endswith("."), (method, path)
        assert operation["tags"], (method, path)


def test_operation_ids_are_unique_and_readable(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_failure_is_described_as_a_problem_with_its_codes(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                continue
            content = response["content"]
            assert list(content) == ["application/problem+json"], (method, path, status)
            problem = content["application/problem+json"]
            assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert problem["examples"], (method, path, status)
            for code, example in problem["examples"].items():
                value = example["value"]
                assert (value["code"], value["status"]) == (code, int(status))


@pytest.mark.parametrize(
    ("path", "method", "codes"),
    [
        (
            "/create-payment-intent",
            "post",
            {
                "invalid_json",
                "unauthenticated",
                "forbidden",
                "idempotency_key_in_use",
                "body_too_large",
                "validation_error",
                "amount_too_small",
                "amount_too_large",
                "invalid_amount_for_currency",
                "unsupported_currency",
                "idempotency_key_reused",
                "stripe_error",
                "stripe_not_configured",
                "database_unavailable",
                "stripe_timeout",
            },
        ),
        ("/confirm-payment", "post", {"card_declined", "payment_not_found"}),
        ("/payment/{payment_id}/cancel", "post", {"payment_not_cancelable", "payment_not_found"}),
        (
            "/create-checkout-session",
            "post",
            {"redirect_not_allowed", "stripe_timeout", "invalid_amount_for_currency"},
        ),
        ("/checkout-session/{session_id}", "get", {"checkout_session_not_found"}),
        (
            "/pay-with-credits",
            "post",
            {"insufficient_credits", "user_not_found", "total_mismatch"},
        ),
        ("/payment/{payment_id}", "get", {"payment_not_found", "unauthenticated"}),
        ("/user/{user_id}/payments", "get", {"forbidden", "database_unavailable"}),
        ("/user/{user_id}/orders", "get", {"forbidden", "database_unavailable"}),
        (
            "/refund",
            "post",
            {
                "payment_not_refundable",
                "refund_exceeds_remaining",
                "invalid_amount_for_currency",
                "forbidden",
            },
        ),
        ("/webhook/stripe", "post", {"invalid_signature", "database_unavailable"}),
        ("/health/ready", "get", {"database_unavailable"}),
    ],
)
def test_codes_that_a_route_answers_with_are_listed(
    document: dict[str, Any], path: str, method: str, codes: set[str]
) -> None:
    responses = document["paths"][BASE_PATH + path][method]["responses"]
    listed = {
        code
        for status, response in responses.items()
        if not status.startswith("2")
        for code in response["content"]["application/problem+json"]["examples"]
    }
    assert codes <= listed, codes - listed


def test_guarded_routes_name_both_credentials_and_public_ones_none(
    document: dict[str, Any],
) -> None:
    assert document["components"]["securitySchemes"].keys() == {
        "BearerToken",
        "InternalServiceKey",
    }
    public = {"/config/publishable-key", "/webhook/stripe"} | {
        path for path in ROUTES["get"] if path.startswith("/health/")
    }
    for method, path, operation in operations(document):
        named = {name for way in operation.get("security", []) for name in way}
        expected = (
            set()
            if path.removeprefix(BASE_PATH) in public
            else {"BearerToken", "InternalServiceKey"}
        )
        assert named == expected, (method, path)


def test_every_post_but_the_webhook_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        headers = {
            parameter["name"].lower()
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "header"
        }
        expected = method == "post" and not path.endswith("/webhook/stripe")
        assert ("idempotency-key" in headers) == expected, (method, path)


@pytest.mark.shop(settings={"stripe_secret_key": "sk_test_never_shown"})
async def test_document_and_docs_page_hold_no_secret_and_no_configured_value(shop: Shop) -> None:
    for path in ("/openapi.json", "/docs"):
        text = (await shop.client.get(path)).text
        assert "sk_test" not in text
        assert "whsec_" not in text
        assert "mongomock" not in text


def test_documents_example_values_are_not_secrets(document: dict[str, Any]) -> None:
    assert not re.search(r"(sk|rk|pk)_(test|live)_\w+|whsec_\w+", str(document))


# Where it may be seen


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_docs_are_there_in_development(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path)).status_code == 200


@pytest.mark.shop(settings=PRODUCTION, connect=connect_embedded, webhooks=False)
@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/openapi.json",
        "/redoc",
        "/docs/oauth2-redirect",
        "/static-offline-docs/swagger-ui.css",
    ],
)
async def test_docs_are_off_in_production(shop: Shop, path: str) -> None:
    refused(await shop.client.get(path), 404, "not_found")
    assert ok(await shop.client.get("/"))["docs"] is None


@pytest.mark.shop(
    settings={**PRODUCTION, "docs_enabled": True}, connect=connect_embedded, webhooks=False
)
@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_docs_are_there_in_production_when_asked_for(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path)).status_code == 200
    assert ok(await shop.client.get("/"))["docs"] == "/docs"


async def test_docs_page_asks_no_other_host_for_anything(shop: Shop) -> None:
    page = (await shop.client.get("/docs")).text
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {path.rpartition(".")[2] for path in wanted} == {"js", "css", "png"}
    for path in wanted:
        assert path.startswith("/")
        assert (await shop.client.get(path)).status_code == 200


@pytest.mark.shop(settings={"docs_enabled": False})
async def test_docs_can_be_switched_off_anywhere(shop: Shop) -> None:
    refused(await shop.client.get("/docs"), 404, "not_found")
