"""Requests and answers as bytes: forms, keys, headers, error bodies."""

from typing import Any

import httpx
import pytest
import stripe

from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.wire import decode

INTENT = {"amount": "1000", "currency": "usd"}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a[0][b]=x&a[1][b]=y", {"a": {"0": {"b": "x"}, "1": {"b": "y"}}}),
        ("a[]=x&a[]=y", {"a": {"0": "x", "1": "y"}}),
        (
            "a[][b]=1&a[][c]=2&a[][b]=3",
            {"a": {"0": {"b": "1", "c": "2"}, "1": {"b": "3"}}},
        ),
        ("a%5B0%5D=caf%C3%A9+au+lait", {"a": {"0": "café au lait"}}),
        ("a[b=1", {"a[b": "1"}),
    ],
)
def test_forms_are_read_as_nested_data(text: str, data: dict[str, Any]) -> None:
    assert decode(text) == data


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a" + "[x]" * 50 + "=1", "a=%FF"])
def test_forms_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ApiError) as refusal:
        decode(text)
    assert refusal.value.status == 400


@pytest.mark.parametrize("form", ["expand[]=latest_charge", "expand[0]=latest_charge"])
async def test_arrays_are_read_in_both_spellings(rig: Any, form: str) -> None:
    intent = await rig.intent()
    answer = await rig.http.get(f"/v1/payment_intents/{intent.id}?{form}")
    assert answer.json()["latest_charge"]["object"] == "charge"


async def test_no_key_is_a_401(rig: Any) -> None:
    async with httpx.AsyncClient(base_url=rig.url) as anonymous:
        answer = await anonymous.get("/v1/balance")
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("You did not provide an API key.")
    assert "code" not in error


@pytest.mark.parametrize(
    "key",
    [
        "sk_live_1234567890",
        "rk_live_abc",
        "pk_live_abc",
        "nonsense",
        "sk_test_",
        "sk_test_a b",
        "sk_test_...",
        "SK_TEST_1",
        "whsec_test_1",
    ],
)
async def test_keys_other_than_test_keys_are_a_401_that_does_not_repeat_them(
    rig: Any, key: str
) -> None:
    """https://docs.stripe.com/keys"""
    answer = await rig.http.get("/v1/balance", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("Invalid API Key provided: ")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert key not in answer.text.replace("sk_test_****", "")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic !!!", "Basic Og==", "Token sk_test_1"])
async def test_a_header_without_a_key_is_a_401(rig: Any, header: str) -> None:
    """https://docs.stripe.com/api/authentication"""
    async with httpx.AsyncClient(base_url=rig.url) as anonymous:
        answer = await anonymous.get("/v1/balance", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("You did not provide an API key.")


@pytest.mark.parametrize("key", ["sk_test_1", "rk_test_1"])
async def test_basic_auth_with_the_key_as_user_works_as_with_curl(rig: Any, key: str) -> None:
    async with httpx.AsyncClient(base_url=rig.url, auth=(key, "")) as curl:
        assert (await curl.get("/v1/balance")).status_code == 200


async def test_a_publishable_key_may_not_create_or_list(rig: Any) -> None:
    headers = {"Authorization": "Bearer pk_test_1"}
    for answer in (
        await rig.http.post("/v1/payment_intents", data=INTENT, headers=headers),
        await rig.http.get("/v1/charges", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "secret_key_required"


async def test_a_publishable_key_sees_an_intent_only_with_its_client_secret(rig: Any) -> None:
    intent = await rig.client.v1.payment_intents.create_async({"amount": 1000, "currency": "usd"})
    headers = {"Authorization": "Bearer pk_test_1"}
    url = f"/v1/payment_intents/{intent.id}"
    without = await rig.http.get(url, headers=headers)
    wrong = await rig.http.get(url, headers=headers, params={"client_secret": "x"})
    right = await rig.http.get(url, headers=headers, params={"client_secret": intent.client_secret})
    assert (without.status_code, wrong.status_code, right.status_code) == (400, 400, 200)


async def test_post_answers_carry_the_headers_of_a_first_request(rig: Any) -> None:
    answer = await rig.http.post(
        "/v1/payment_intents",
        data=INTENT,
        headers={"Idempotency-Key": "k1", "Stripe-Version": "2026-10-28.endive"},
    )
    assert answer.status_code == 200
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Original-Request"] == answer.headers["Request-Id"]
    assert answer.headers["Idempotency-Key"] == "k1"
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"
    assert answer.headers["Stripe-Should-Retry"] == "false"
    assert "Idempotent-Replayed" not in answer.headers


async def test_get_answers_carry_only_request_id_and_version(rig: Any) -> None:
    answer = await rig.http.get("/v1/balance", headers={"Idempotency-Key": "ignored"})
    assert answer.headers["Request-Id"].startswith("req_")
    assert "Stripe-Version" in answer.headers
    for name in ("Idempotency-Key", "Original-Request", "Stripe-Should-Retry"):
        assert name not in answer.headers


@pytest.mark.parametrize("version", ["latest", "2026-10", "2026-10-28.endive; x", ""])
async def test_what_is_no_version_is_refused(rig: Any, version: str) -> None:
    """https://docs.stripe.com/api/versioning"""
    answer = await rig.http.get("/v1/balance", headers={"Stripe-Version": version})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"Invalid Stripe API version: {version}"


async def test_an_older_version_is_taken_and_echoed(rig: Any) -> None:
    answer = await rig.http.get("/v1/balance", headers={"Stripe-Version": "2024-06-20"})
    assert (answer.status_code, answer.headers["Stripe-Version"]) == (200, "2024-06-20")


async def test_the_sdk_reads_the_request_id(rig: Any) -> None:
    intent = await rig.intent()
    assert intent.last_response.request_id == rig.sandbox.requests[-1].request_id


async def test_missing_param_is_named(rig: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.create_async({"amount": 100})
    error = refused.value
    assert (error.http_status, error.code, error.param) == (400, "parameter_missing", "currency")
    assert error.user_message == "Missing required param: currency."


async def test_unknown_params_are_named(rig: Any) -> None:
    answer = await rig.http.post("/v1/payment_intents", data={**INTENT, "colour": "red"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], error["param"]) == ("parameter_unknown", "colour")
    assert error["message"] == "Received unknown parameter: colour"
    answer = await rig.http.post("/v1/payment_intents", data={**INTENT, "x": "1", "y": "2"})
    assert answer.json()["error"]["message"] == "Received unknown parameters: x, y"


async def test_nested_params_are_named_in_full(rig: Any) -> None:
    body = {"success_url": "https://s.example", "line_items[0][quantity]": "1"}
    answer = await rig.http.post(
        "/v1/checkout/sessions", data={**body, "line_items[0][price_data][currency]": "usd"}
    )
    assert answer.json()["error"]["param"] == "line_items[0][price_data][product_data]"
    answer = await rig.http.post(
        "/v1/checkout/sessions", data={**body, "line_items[0][price_data][colour]": "red"}
    )
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (
        "parameter_unknown",
        "line_items[0][price_data][colour]",
    )


async def test_unknown_urls_are_404(rig: Any) -> None:
    for method, path in (
        ("POST", "/v1/x"),
        ("GET", "/v1/payment_intents/pi_1/x"),
        ("PUT", "/v1/x"),
        ("GET", "/v1/"),
        ("GET", "/v2/core/events"),
    ):
        answer = await rig.http.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith(
            f"Unrecognized request URL ({method}: {path})."
        )


async def test_error_bodies_omit_what_they_do_not_know(rig: Any) -> None:
    answer = await rig.http.get("/v1/payment_intents/pi_missing")
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert set(error) == {"code", "doc_url", "message", "param", "type", "request_log_url"}
    assert error["code"] == "resource_missing"
    assert error["param"] == "intent"
    assert error["message"] == "No such payment_intent: 'pi_missing'"
    assert answer.headers["Request-Id"] in error["request_log_url"]


async def test_json_bodies_are_refused(rig: Any) -> None:
    answer = await rig.http.post("/v1/payment_intents", json={"amount": 1000, "currency": "usd"})
    assert answer.status_code == 400
    assert "application/x-www-form-urlencoded" in answer.json()["error"]["message"]


async def test_oversized_bodies_are_refused(rig: Any) -> None:
    answer = await rig.http.post("/v1/payment_intents", data={"description": "x" * 1_100_000})
    assert answer.status_code == 413


CREATE = "https://docs.stripe.com/api/payment_intents/create"
INTEGER = "https://docs.stripe.com/error-codes#parameter-invalid-integer"
CURRENCIES = "https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts"
DESCRIPTORS = "https://docs.stripe.com/get-started/account/statement-descriptors"
METADATA = "https://docs.stripe.com/metadata"
ENDIVE = "https://docs.stripe.com/changelog/endive"
NOT_INTEGER, TOO_SMALL = "parameter_invalid_integer", "amount_too_small"


@pytest.mark.parametrize(
    ("source", "params", "code", "param"),
    [
        (INTEGER, {"amount": "10.5"}, NOT_INTEGER, "amount"),
        (INTEGER, {"amount": "ten"}, NOT_INTEGER, "amount"),
        (INTEGER, {"amount": "1000\n"}, NOT_INTEGER, "amount"),
        (INTEGER, {"amount": "\u0661\u0660\u0660\u0660"}, NOT_INTEGER, "amount"),
        (INTEGER, {"amount": "9" * 30}, NOT_INTEGER, "amount"),
        ("https://github.com/stripe/stripe-php/issues/943", {"amount": "0"}, NOT_INTEGER, "amount"),
        (INTEGER, {"amount": "-100"}, NOT_INTEGER, "amount"),
        (CREATE, {"amount": ""}, "parameter_invalid_empty", "amount"),
        (CURRENCIES, {"amount": "49"}, TOO_SMALL, "amount"),
        (CURRENCIES, {"amount": "29", "currency": "gbp"}, TOO_SMALL, "amount"),
        (CURRENCIES, {"amount": "49", "currency": "jpy"}, TOO_SMALL, "amount"),
        (CURRENCIES, {"amount": "999", "currency": "mxn"}, TOO_SMALL, "amount"),
        (CREATE, {"amount": "100000000"}, "amount_too_large", "amount"),
        (CURRENCIES, {"currency": "xxx"}, None, "currency"),
        (CREATE, {"currency": ""}, "parameter_invalid_empty", "currency"),
        (CREATE, {"capture_method": "later"}, None, "capture_method"),
        (CREATE, {"confirm": "yes"}, None, "confirm"),
        (CREATE, {"receipt_email": "nobody"}, "email_invalid", "receipt_email"),
        (CREATE, {"confirm": "true", "return_url": "shop"}, "url_invalid", "return_url"),
        (CREATE, {"return_url": "https://shop.example"}, None, "return_url"),
        (CREATE, {"off_session": "true"}, None, "off_session"),
        (DESCRIPTORS, {"statement_descriptor": "SHOP"}, None, "statement_descriptor"),
        (
            DESCRIPTORS,
            {"statement_descriptor_suffix": "<SHOP>"},
            None,
            "statement_descriptor_suffix",
        ),
        (METADATA, {"metadata[" + "k" * 41 + "]": "v"}, None, "metadata"),
        (METADATA, {"metadata[k]": "v" * 501}, None, "metadata"),
        (METADATA, {f"metadata[k{n}]": "v" for n in range(51)}, None, "metadata"),
        (
            ENDIVE,
            {"payment_method_types[]": "card"},
            "payment_method_types_no_longer_supported",
            "payment_method_types",
        ),
        ("docs/stripe_sandbox.md", {"transfer_data[destination]": "a"}, None, "transfer_data"),
    ],
)
async def test_invalid_params_of_an_intent_are_refused(
    rig: Any, source: str, params: dict[str, str], code: str | None, param: str
) -> None:
    answer = await rig.http.post("/v1/payment_intents", data={**INTENT, **params})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert (error.get("code"), error["param"]) == (code, param)
    assert rig.sandbox.events.all() == []


@pytest.mark.parametrize(
    ("amount", "currency"), [("50", "usd"), ("30", "gbp"), ("50", "JPY"), ("99999999", "eur")]
)
async def test_the_smallest_and_largest_amounts_are_accepted(
    rig: Any, amount: str, currency: str
) -> None:
    answer = await rig.http.post(
        "/v1/payment_intents", data={"amount": amount, "currency": currency}
    )
    assert answer.status_code == 200
    assert answer.json()["currency"] == currency.lower()


async def test_requests_are_recorded_without_card_numbers(rig: Any) -> None:
    card = {"number": "4242424242424242", "cvc": "987", "exp_month": "12", "exp_year": "2044"}
    answer = await rig.http.post(
        "/v1/payment_methods",
        data={"type": "card", **{f"card[{key}]": value for key, value in card.items()}},
        headers={"Authorization": "Bearer pk_test_1"},
    )
    assert answer.json()["card"]["last4"] == "4242"
    record = rig.sandbox.requests[-1]
    assert (record.method, record.path, record.status) == ("POST", "/v1/payment_methods", 200)
    assert record.params["card"]["exp_month"] == "12"
    assert "4242424242424242" not in repr(record)
    assert "987" not in repr(record.params)


async def test_a_server_may_not_send_card_numbers(rig: Any) -> None:
    answer = await rig.http.post(
        "/v1/payment_methods",
        data={
            "type": "card",
            "card[number]": "4242424242424242",
            "card[exp_month]": "12",
            "card[exp_year]": "2044",
        },
    )
    assert answer.status_code == 402
    assert "generally unsafe" in answer.json()["error"]["message"]
