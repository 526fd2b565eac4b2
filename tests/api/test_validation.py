"""What is refused before anything happens: no record is left behind and Stripe is not asked."""

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest

from app.domain.money import CURRENCIES, LARGEST_AMOUNT
from app.problems import ANY_OTHER
from app.repositories.indexes import INDEXES
from app.routers import BASE_PATH
from tests.support.shop import Shop, book, ok, refused

JSON: Final = {"Content-Type": "application/json"}
POSTS: Final = (
    "/create-payment-intent",
    "/confirm-payment",
    "/create-checkout-session",
    "/pay-with-credits",
    "/refund",
)
GOOD: Final[dict[str, dict[str, Any]]] = {
    "/create-payment-intent": {"user_id": "user_123", "amount": 999},
    "/confirm-payment": {"payment_intent_id": "pi_x"},
    "/create-checkout-session": {"user_id": "user_123", "items": [book()]},
    "/pay-with-credits": {"user_id": "user_123", "items": [book()]},
    "/refund": {"payment_id": "pay_x"},
}
PRICED: Final = ("/create-payment-intent", "/create-checkout-session", "/pay-with-credits")
BY_CARD: Final = ("/create-payment-intent", "/create-checkout-session")
BY_AMOUNT: Final = ("/create-payment-intent", "/pay-with-credits")


@pytest.fixture
async def untouched(shop: Shop) -> AsyncIterator[Shop]:
    """A shop in which, whatever the test sends, nothing may happen."""
    users = await shop.databases.auth["users"].find({}).to_list(None)
    before = {name: await shop.stored(name) for name in INDEXES}
    yield shop
    assert {name: await shop.stored(name) for name in INDEXES} == before
    assert await shop.databases.auth["users"].find({}).to_list(None) == users
    assert len(shop.stripe.requests) == 0, "Stripe was asked"


async def send(shop: Shop, path: str, content: bytes | str, **headers: str) -> httpx.Response:
    return await shop.client.post(BASE_PATH + path, content=content, headers={**JSON, **headers})


def names_field(problem: dict[str, Any], field: str) -> bool:
    return field in {error["field"] for error in problem["errors"]}


# Bodies that are no JSON object


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "{'user_id': 'user_123'}",
        '{"user_id": "user_123",}',
        "user_id=user_123&amount=999",
        b'{"user_id": "\xe9"}',
        b"\x00",
        "[" * 20_000,
        '{"amount": ' + "9" * 5_000 + "}",
    ],
    ids=["cut", "quotes", "comma", "form", "latin1", "nul", "deep", "digits"],
)
async def test_body_that_is_not_json_is_a_400(untouched: Shop, body: str | bytes) -> None:
    for path in POSTS:
        refused(await send(untouched, path, body), 400, "invalid_json")


@pytest.mark.parametrize("body", ["", "[]", '"text"', "1", "null", "true", '[{"user_id": "a"}]'])
async def test_body_that_is_not_an_object_is_a_422(untouched: Shop, body: str) -> None:
    for path in POSTS:
        problem = refused(await send(untouched, path, body), 422, "validation_error")
        assert names_field(problem, "body")


async def test_body_without_the_json_content_type_says_which_header_to_send(
    untouched: Shop,
) -> None:
    for path in POSTS:
        body = json.dumps(GOOD[path])
        response = await send(untouched, path, body, **{"Content-Type": "text/plain"})
        problem = refused(response, 422, "validation_error")
        assert "Content-Type: application/json" in problem["detail"]


# Fields


def cases() -> list[tuple[str, str, list[dict[str, Any]], str]]:
    """(name, path, each of it wrong in the good body, the field that is to be named)"""
    found: list[tuple[str, str, list[dict[str, Any]], str]] = []

    def add(name: str, paths: tuple[str, ...], field: str, *values: Any, at: str = "") -> None:
        for path in paths:
            wrong = [{field: value} for value in values]
            found.append((f"{name}-{path[1:]}", path, wrong, at or field))

    not_text = (None, 1, True, 1.5, ["user_123"], {"$ne": ""})
    not_whole = ("999", 9.99, 999.0, True, [999], {"$gt": 0})
    not_printable = ("a\x00b", "a\nb", "\x7f", "\ud800")
    payers = ("/create-payment-intent", "/create-checkout-session", "/pay-with-credits")
    add("user", payers, "user_id", *not_text, "", "u" * 129, *not_printable)
    add("amount", BY_AMOUNT, "amount", *not_whole, -1)
    add("currency", BY_CARD, "currency", *not_text, "", "us", "u" * 17)
    add("metadata", payers, "metadata", "x", 1, [], [["a", "b"]])
    add("metadata-value", payers, "metadata", *({"a": v} for v in not_text), at="metadata.a")
    add("metadata-nul", payers, "metadata", {"a": "\x00"}, {"a": "\ud800"}, at="metadata.a")
    add("items", PRICED, "items", "x", 1, True, {"book_id": "dune"}, [])
    add("too-many-items", PRICED, "items", [book()] * 101)
    add("item", PRICED, "items", [None], ["dune"], [[book()]], at="items.0")
    for field, values in {
        "book_id": (*not_text, "", "b" * 129, *not_printable),
        "quantity": (*not_whole, None, 0, -1, 1001),
        "price_cents": (*not_whole, None, -1, LARGEST_AMOUNT + 1),
        "credits": (*not_whole, None, -1, 100_001),
        "title": (1, True, [], "", "t" * 251, "a\x00b", "\ud800"),
    }.items():
        items = ([book(), book(**{field: value})] for value in values)
        add(f"item-{field}", PRICED, "items", *items, at=f"items.1.{field}")
    for field in ("book_id", "price_cents"):
        incomplete = [{name: value for name, value in book().items() if name != field}]
        add(f"item-without-{field}", PRICED, "items", incomplete, at=f"items.0.{field}")
    emails = (
        1,
        "",
        "a@b",
        "ab.c",
        "a b@c.d",
        "a@b.c\nd",
        "a@b\x00.c",
        "\ud800@b.c",
        "a" * 251 + "@b.c",
    )
    add("email", ("/create-checkout-session",), "customer_email", *emails)
    for field in ("success_url", "cancel_url"):
        long = "http://localhost:5173/" + "x" * 2048
        add(field, ("/create-checkout-session",), field, 1, [], "", long)
    add("total", ("/pay-with-credits",), "total_credits", *not_whole, -1)
    intents = ("/confirm-payment",)
    add("intent", intents, "payment_intent_id", *not_text, "", "p" * 256, "\ud800")
    add("method", intents, "payment_method_id", 1, True, [], {}, "", "p" * 256, "\ud800")
    add("payment", ("/refund",), "payment_id", *not_text, "", "p" * 256, *not_printable)
    add("refund-amount", ("/refund",), "amount_cents", *not_whole, 0, -1)
    add("refund-credits", ("/refund",), "credits", *not_whole, 0, -1)
    add("reason", ("/refund",), "reason", 1, True, [], "", "r" * 501, "\ud800")
    return found


CASES: Final = cases()


@pytest.mark.parametrize(
    ("path", "wrong", "field"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_wrong_field_is_named(
    untouched: Shop, path: str, wrong: list[dict[str, Any]], field: str
) -> None:
    for each in wrong:
        body = {**GOOD[path], **each}
        if "items" in each:
            body.pop("amount", None)
        if "amount" in each:
            body.pop("items", None)
        response = await send(untouched, path, json.dumps(body))
        assert response.status_code == 422, (each, response.text)
        problem = refused(response, 422, "validation_error")
        assert names_field(problem, field), (each, problem["errors"])


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (path, field)
        for path, body in GOOD.items()
        for field in body
        if field not in ("amount", "items") or path == "/create-checkout-session"
    ],
)
async def test_missing_field_is_named(untouched: Shop, path: str, field: str) -> None:
    body = {name: value for name, value in GOOD[path].items() if name != field}
    problem = refused(await untouched.post(path, body), 422, "validation_error")
    assert names_field(problem, field)


@pytest.mark.parametrize("key", ["a\x00b", "a\nb", "\ud800"])
async def test_metadata_key_that_no_store_takes_is_refused(untouched: Shop, key: str) -> None:
    for path in PRICED:
        body = json.dumps({**GOOD[path], "metadata": {key: "x"}})
        refused(await send(untouched, path, body), 422, "validation_error")


async def test_every_wrong_field_is_listed(untouched: Shop) -> None:
    body = {"user_id": 1, "items": [{"book_id": "", "price_cents": "9"}], "currency": "x"}
    problem = refused(await untouched.post("/create-payment-intent", body), 422, "validation_error")
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"user_id", "items.0.book_id", "items.0.price_cents", "currency"}
    assert all(error["message"] for error in problem["errors"])


@pytest.mark.parametrize("path", BY_AMOUNT)
@pytest.mark.parametrize(
    "price",
    [{}, {"items": [book()], "amount": 999}, {"items": None, "amount": None}],
    ids=["neither", "both", "nulls"],
)
async def test_exactly_one_of_items_and_amount_is_taken(
    untouched: Shop, path: str, price: dict[str, Any]
) -> None:
    problem = refused(
        await untouched.post(path, {"user_id": "user_123", **price}), 422, "validation_error"
    )
    assert problem["detail"] == "items: Send exactly one of items and amount."


async def test_refund_takes_an_amount_or_credits_and_not_both(untouched: Shop) -> None:
    body = {"payment_id": "pay_x", "amount_cents": 1, "credits": 1}
    refused(await untouched.post("/refund", body), 422, "validation_error")


async def test_unknown_fields_are_ignored(shop: Shop) -> None:
    extra = {"price": -1, "amount_cents": 1, "status": "succeeded", "_id": "x", "$where": "1"}
    items = [book(**extra)]
    created = ok(
        await shop.post("/create-payment-intent", {"user_id": "user_123", "items": items, **extra})
    )
    assert (created["amount_cents"], created["status"]) == (999, "pending")
    stored = await shop.stored_payment(created["payment_id"])
    assert not extra.keys() - {"status", "_id"} & stored.keys()
    assert not extra.keys() & stored["items"][0].keys()


async def test_null_stands_for_an_optional_field_that_is_left_out(shop: Shop) -> None:
    optional = ("customer_email", "success_url", "cancel_url", "metadata")
    await shop.create_session(**dict.fromkeys(optional))


@pytest.mark.parametrize(
    ("items", "amount"),
    [
        ([book(book_id="b" * 128, title="t" * 250)], 999),
        ([book(quantity=1000, price_cents=1)], 1000),
        ([book(price_cents=99_999_999)], 99_999_999),
        ([book(price_cents=10)] * 100, 1000),
        ([book(price_cents=0), book(price_cents=50, credits=0)], 50),
        ([book(title="Prø\u2019e \U0001f4d6", book_id="été")], 999),
    ],
    ids=["long", "many pieces", "dear", "many items", "free item", "unicode"],
)
@pytest.mark.parametrize("path", BY_CARD)
async def test_cart_at_the_limits_is_taken(
    shop: Shop, path: str, items: list[dict[str, Any]], amount: int
) -> None:
    reply = ok(await shop.post(path, {"user_id": "user_123", "items": items}))
    assert reply["amount_cents"] == amount
    assert (await shop.payment(reply["payment_id"]))["items"][0]["book_id"] == items[0]["book_id"]


# Metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key_{number}": "x" for number in range(47)},
        {"k" * 41: "x"},
        {"": "x"},
        {"a[b]": "x"},
        {"a": "v" * 501},
        {"a": ""},
        {"payment_id": "pay_x"},
        {"user_id": "user_456"},
        {"refund_id": "rfd_x"},
        {"reason": "x"},
        {"deployment": "x"},
    ],
    ids=lambda metadata: next(iter(metadata))[:10] + f"-{len(metadata)}",
)
async def test_metadata_that_stripe_would_refuse_or_that_is_ours_is_refused(
    untouched: Shop, metadata: dict[str, str]
) -> None:
    for path in PRICED:
        response = await untouched.post(path, {**GOOD[path], "metadata": metadata})
        assert names_field(refused(response, 422, "validation_error"), "metadata")


@pytest.mark.parametrize("path", PRICED)
async def test_metadata_at_the_limits_is_kept_and_reaches_stripe(shop: Shop, path: str) -> None:
    metadata = {f"{number:02}".ljust(40, "k"): "v" * 500 for number in range(45)}
    metadata["$set.a"] = "two\nlines"
    reply = ok(await shop.post(path, {**GOOD[path], "metadata": metadata}))
    assert (await shop.payment(reply["payment_id"]))["metadata"] == metadata
    if path == "/create-payment-intent":
        intent = shop.stripe.payment_intents.named(reply["payment_intent_id"]).data
        assert intent["metadata"].items() >= metadata.items()
        ours = intent["metadata"].keys() - metadata.keys()
        assert ours == {"payment_id", "user_id", "deployment"}


# Currencies and amounts


@pytest.mark.parametrize("path", BY_CARD)
@pytest.mark.parametrize("currency", ["xxx", "btc", "dollar", "u$d", "\u20ac\u20ac\u20ac"])
async def test_currency_that_stripe_cannot_charge_in_is_refused(
    untouched: Shop, path: str, currency: str
) -> None:
    body = {**GOOD[path], "currency": currency}
    refused(await untouched.post(path, body), 422, "unsupported_currency")


@pytest.mark.parametrize("path", BY_CARD)
async def test_currency_may_be_in_upper_case(shop: Shop, path: str) -> None:
    reply = ok(await shop.post(path, {**GOOD[path], "currency": "EUR"}))
    assert reply["currency"] == "eur"
    assert (await shop.stored_payment(reply["payment_id"]))["currency"] == "eur"


def smallest_charges() -> list[tuple[str, int]]:
    """A currency of each kind: usual, another minimum, zero-decimal with and without a minimum."""
    chosen = ("usd", "gbp", "hkd", "huf", "jpy", "vnd", "isk", "kwd")
    return [(currency, CURRENCIES[currency].minimum) for currency in chosen]


@pytest.mark.parametrize(("currency", "minimum"), smallest_charges())
async def test_amount_below_the_minimum_of_its_currency_is_refused(
    untouched: Shop, currency: str, minimum: int
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/create-payment-intent": {"amount": minimum - 1},
        "/create-checkout-session": {"items": [book(price_cents=minimum - 1)]},
    }
    for path, body in bodies.items():
        problem = refused(
            await untouched.post(path, {"user_id": "user_123", "currency": currency, **body}),
            422,
            "amount_too_small",
        )
        assert problem["minimum"] == minimum


@pytest.mark.parametrize(("currency", "minimum"), smallest_charges())
async def test_smallest_charge_of_a_currency_is_taken(
    shop: Shop, currency: str, minimum: int
) -> None:
    body = {"user_id": "user_123", "amount": minimum, "currency": currency}
    assert ok(await shop.post("/create-payment-intent", body))["amount_cents"] == minimum


@pytest.mark.parametrize("amount", [100_000_000, 10**30])
async def test_amount_above_eight_digits_is_refused(untouched: Shop, amount: int) -> None:
    for path in BY_AMOUNT:
        body = {"user_id": "user_123", "amount": amount}
        problem = refused(await untouched.post(path, body), 422, "amount_too_large")
        assert problem["maximum"] == (99_999_999 if path in BY_CARD or amount < 10**9 else 10**8)


@pytest.mark.parametrize(("currency", "amount"), [("isk", 50_050), ("ugx", 101), ("kwd", 12_345)])
async def test_amount_that_its_currency_does_not_have_is_refused_with_the_rule(
    untouched: Shop, currency: str, amount: int
) -> None:
    step = CURRENCIES[currency].multiple_of
    items = [book(price_cents=step * 100), book(price_cents=amount, quantity=step)]
    bodies: list[tuple[str, dict[str, Any], list[str]]] = [
        ("/create-payment-intent", {"amount": amount}, []),
        *((path, {"items": items}, ["items.1.price_cents"]) for path in BY_CARD),
    ]
    for path, body, fields in bodies:
        response = await untouched.post(
            path, {"user_id": "user_123", "currency": currency.upper(), **body}
        )
        problem = refused(response, 422, "invalid_amount_for_currency")
        assert f"An amount in {currency.upper()} ends in 0" in problem["detail"]
        assert (problem["currency"], problem["multiple_of"]) == (currency, step)
        assert [error["field"] for error in problem.get("errors", [])] == fields


@pytest.mark.parametrize("currency", ["usd", "idr", "cop", "inr"])
async def test_each_currency_has_its_own_largest_charge(untouched: Shop, currency: str) -> None:
    maximum = CURRENCIES[currency].maximum
    many = [book(price_cents=maximum), book(price_cents=1)]
    dear = [book(), book(price_cents=maximum + 1)]
    for path in BY_CARD:
        for items, fields in ((many, []), (dear, ["items.1.price_cents"])):
            if items is dear and maximum == LARGEST_AMOUNT:
                continue
            body = {"user_id": "user_123", "currency": currency, "items": items}
            problem = refused(await untouched.post(path, body), 422, "amount_too_large")
            assert problem["maximum"] == maximum
            assert [error["field"] for error in problem.get("errors", [])] == fields


@pytest.mark.parametrize("path", BY_CARD)
async def test_book_of_a_million_rupiah_reaches_stripe(shop: Shop, path: str) -> None:
    items = [book(price_cents=150_000_000)]
    ok(await shop.post(path, {"user_id": "user_123", "currency": "idr", "items": items}))
    [asked] = [request for request in shop.stripe.requests if request.method == "POST"]
    assert "150000000" in json.dumps(asked.params)


@pytest.mark.parametrize("path", PRICED)
async def test_free_cart_is_refused_with_the_way_out(untouched: Shop, path: str) -> None:
    body = {"user_id": "user_123", "items": [book(price_cents=0, credits=0)]}
    problem = refused(await untouched.post(path, body), 422, "amount_too_small")
    assert problem["detail"] == (
        "This cart costs nothing, so there is nothing to pay; the books can be given away."
    )
    assert problem["minimum"] == (50 if path in BY_CARD else 1)


async def test_sum_above_eight_digits_is_refused(untouched: Shop) -> None:
    items = [book(price_cents=99_999_999, credits=0), book(price_cents=1, credits=1)]
    for path in PRICED:
        body = {"user_id": "user_123", "items": items}
        refused(await untouched.post(path, body), 422, "amount_too_large")


@pytest.mark.shop(settings={"max_amount_cents": 5000})
async def test_shop_may_set_a_lower_maximum(untouched: Shop) -> None:
    problem = refused(
        await untouched.post("/create-payment-intent", {"user_id": "u", "amount": 5001}),
        422,
        "amount_too_large",
    )
    assert problem["maximum"] == 5000


@pytest.mark.shop(settings={"max_amount_cents": "5000,idr:900000000"})
async def test_shop_may_set_a_maximum_of_each_currency(untouched: Shop) -> None:
    for currency, maximum in (("usd", 5000), ("idr", 900_000_000), ("inr", 5000)):
        body = {"user_id": "u", "amount": maximum + 1, "currency": currency}
        response = await untouched.post("/create-payment-intent", body)
        assert refused(response, 422, "amount_too_large")["maximum"] == maximum


@pytest.mark.parametrize("total", [0, 1, 3, 10**30])
async def test_total_credits_that_differ_from_the_sum_are_refused(
    untouched: Shop, total: int
) -> None:
    body = {"user_id": "user_123", "items": [book(credits=2)], "total_credits": total}
    problem = refused(await untouched.post("/pay-with-credits", body), 422, "total_mismatch")
    assert problem["expected"] == 2


async def test_credits_payment_costs_at_least_one_credit(untouched: Shop) -> None:
    free: list[dict[str, Any]] = [{"items": [book(credits=0)]}, {"amount": 0}]
    for price in free:
        body = {"user_id": "user_123", **price}
        refused(await untouched.post("/pay-with-credits", body), 422, "amount_too_small")


# Redirects

PLACEHOLDER: Final = "{CHECKOUT_SESSION_ID}"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://localhost:5173/",
        "http://localhost/",
        "http://localhost:5174/",
        "http://localhost.evil.example:5173/",
        "http://evil.example/http://localhost:5173/",
        "http://localhost:5173@evil.example/",
        "http://user@localhost:5173/",
        "http://@localhost:5173/",
        "http://evil.example\\@localhost:5173/",
        "http://localhost:5173\\@evil.example/",
        "http://localhost:5173\\.evil.example/",
        "http://localhost:5173/\\evil.example",
        "http://local\thost:5173/",
        "http://localhost:5173/\r\nLocation: https://evil.example",
        " http://localhost:5173/",
        "http://localhost:5173/a b",
        "http://localhost:5173/\u2028",
        "http://\uff4cocalhost:5173/",
        "http://localhost:99999/",
        "http://[::1",
        "//localhost:5173/",
        "/checkout/success",
        "http:localhost:5173",
        "http:///localhost:5173",
        "javascript:alert(1)",
        "javascript://localhost:5173/%0aalert(1)",
        "data:text/html,x",
        "ftp://localhost:5173/",
        PLACEHOLDER,
    ],
)
async def test_redirect_to_anywhere_else_is_refused(untouched: Shop, url: str) -> None:
    for field in ("success_url", "cancel_url"):
        body = {**GOOD["/create-checkout-session"], field: url}
        response = await untouched.post("/create-checkout-session", body)
        refused(response, 422, "redirect_not_allowed")


@pytest.mark.shop(
    settings={
        "allowed_redirect_origins": "https://shop.example, https://app.example:8443",
        "payment_success_url": "https://default.example/done",
    }
)
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://shop.example", True),
        ("https://shop.example:443/a", True),
        ("https://SHOP.example/a?b=c#d", True),
        ("https://app.example:8443/a", True),
        ("https://app.example/a", False),
        ("http://shop.example/a", False),
        ("https://sub.shop.example/a", False),
        ("https://default.example/done", False),
        ("http://localhost:5173/", False),
    ],
)
async def test_listed_origins_replace_the_default_ones(shop: Shop, url: str, allowed: bool) -> None:
    body = {**GOOD["/create-checkout-session"], "cancel_url": url}
    response = await shop.post("/create-checkout-session", body)
    if allowed:
        assert session_of(shop, ok(response))["cancel_url"] == url
    else:
        refused(response, 422, "redirect_not_allowed")


@pytest.mark.shop(
    settings={
        "payment_success_url": "https://one.example/s",
        "payment_cancel_url": "https://two.example/c",
        "cors_origins": '["https://three.example"]',
    }
)
@pytest.mark.parametrize("origin", ["https://one.example", "https://two.example"])
async def test_by_default_the_configured_pages_and_the_frontend_are_allowed(
    shop: Shop, origin: str
) -> None:
    created = await shop.create_session(
        success_url=f"{origin}/x", cancel_url="https://three.example/y"
    )
    session = session_of(shop, created)
    assert session["success_url"] == f"{origin}/x?session_id={PLACEHOLDER}"
    assert session["cancel_url"] == "https://three.example/y"


def session_of(shop: Shop, created: dict[str, Any]) -> dict[str, Any]:
    session: dict[str, Any] = shop.stripe.checkout_sessions.named(created["session_id"]).data
    return session


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("/s", f"/s?session_id={PLACEHOLDER}"),
        ("/s?a=b", f"/s?a=b&session_id={PLACEHOLDER}"),
        ("/s#top", f"/s?session_id={PLACEHOLDER}#top"),
        ("/s?a=b#top", f"/s?a=b&session_id={PLACEHOLDER}#top"),
        (f"/s?id={PLACEHOLDER}", f"/s?id={PLACEHOLDER}"),
        (f"/s/{PLACEHOLDER}/done", f"/s/{PLACEHOLDER}/done"),
        (f"/#/s?id={PLACEHOLDER}", f"/#/s?id={PLACEHOLDER}"),
        ("", f"?session_id={PLACEHOLDER}"),
    ],
)
async def test_success_url_gets_the_session_id_once_and_in_plain_braces(
    shop: Shop, given: str, sent: str
) -> None:
    base = "http://localhost:5173"
    session = session_of(shop, await shop.create_session(success_url=base + given))
    assert session["success_url"] == base + sent
    [request] = shop.stripe.requests.matching("POST", "^/v1/checkout/sessions$")
    assert request.params["success_url"] == base + sent


async def test_configured_success_url_gets_the_session_id_too(shop: Shop) -> None:
    session = session_of(shop, await shop.create_session())
    pages = "http://localhost:5173/checkout"
    assert session["success_url"] == f"{pages}/success?session_id={PLACEHOLDER}"
    assert session["cancel_url"] == f"{pages}/cancel"


# What people are told


def places(schema: Any, document: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body where a value may stand, as the OpenAPI document describes it."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if at:
        yield at
    for choice in schema.get("anyOf", ()):
        yield from (place for place in places(choice, document, at) if place != at)
    for name, part in schema.get("properties", {}).items():
        yield from places(part, document, (*at, name))
    if "items" in schema:
        yield from places(schema["items"], document, (*at, 0))
    if "additionalProperties" in schema:
        yield (*at, "note")


def replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of ``body`` with ``value`` at ``place``; ``...`` takes away what is there."""
    if not place:
        return value
    copy: Any = list(body) if isinstance(body, list) else dict(body or {})
    head, *rest = place
    inner = copy[head] if isinstance(copy, list) else copy.get(head)
    copy[head] = replaced(inner, tuple(rest), value)
    if copy[head] is ...:
        del copy[head]
    return copy


WRONG: Final[tuple[Any, ...]] = (
    *(..., None, True, 0, -1, 1, 1.5, 10**13, [], ["x"], [{}] * 101, {}, {"x": 1}, {"a]": "x"}),
    *("", "x", "x" * 3000, "a\x00b", "a\nb", "\ud800", " ", "12", "ax@example", "../x"),
)
COMPLETE: Final[dict[str, dict[str, Any]]] = {
    "/create-payment-intent": {"items": [book()], "metadata": {"note": "x"}},
    "/confirm-payment": {"payment_method_id": "pm_card_visa"},
    "/create-checkout-session": {"metadata": {"note": "x"}},
    "/pay-with-credits": {"metadata": {"note": "x"}},
    "/refund": {},
}


async def test_whatever_is_wrong_is_told_in_a_sentence_for_a_shopper(shop: Shop) -> None:
    document = ok(await shop.client.get("/openapi.json"))
    told: set[str] = set()
    for path, fields in COMPLETE.items():
        operation = document["paths"][BASE_PATH + path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        good = {**GOOD[path], **fields}
        if "items" in good:
            good.pop("amount", None)
        for place, value in itertools.product(places(schema, document), WRONG):
            body = json.dumps(replaced(good, place, value))
            response = await send(shop, path, body)
            if response.status_code != 200:
                problem = refused(response, response.status_code, response.json()["code"])
                assert response.status_code < 500, problem
                told |= {error["message"] for error in problem.get("errors", ())}
    for path in ("/user/u/payments", "/user/u/orders"):
        template = BASE_PATH + path.replace("/u/", "/{user_id}/")
        for parameter in document["paths"][template]["get"]["parameters"]:
            for value in ("", "x", "0", "-1", "101", "1.5", "1e9", "9" * 5000, "\x00", "x" * 600):
                response = await shop.get(path, params={parameter["name"]: value})
                if response.status_code != 200:
                    problem = refused(response, 422, "validation_error")
                    told |= {error["message"] for error in problem["errors"]}
    assert ANY_OTHER not in told
    assert len(told) > 20


@pytest.mark.parametrize(
    ("field", "typed", "kept"),
    [
        ("customer_email", " reader@example.com\n", "reader@example.com"),
        ("items", [book(title="\u00a0Dune ")], "Dune"),
        ("metadata", {"note": " as sent "}, " as sent "),
    ],
)
async def test_blanks_around_what_people_write_are_dropped_and_no_others(
    shop: Shop, field: str, typed: Any, kept: str
) -> None:
    created = await shop.create_session(**{field: typed})
    payment = await shop.payment(created["payment_id"])
    [session] = shop.stripe.checkout_sessions.list({})["data"]
    found = {
        "customer_email": session["customer_email"],
        "items": payment["items"][0]["title"],
        "metadata": payment["metadata"].get("note"),
    }
    assert found[field] == kept


async def test_address_that_is_none_is_told_how_one_is_written(untouched: Shop) -> None:
    body = {**GOOD["/create-checkout-session"], "customer_email": "reader@example"}
    problem = refused(
        await untouched.post("/create-checkout-session", body), 422, "validation_error"
    )
    assert problem["detail"] == (
        "customer_email: This is not an e-mail address; write it like name@example.com."
    )


# Queries and paths


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("cursor=", "cursor"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%F0%9F%93%96", "cursor"),
        ("cursor=" + "A" * 501, "cursor"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTpwYXlfeA", "cursor"),
    ],
)
async def test_wrong_query_is_refused_and_named(untouched: Shop, query: str, field: str) -> None:
    for collection in ("payments", "orders"):
        response = await untouched.get(f"/user/user_123/{collection}?{query}")
        assert names_field(refused(response, 422, "validation_error"), field)


async def test_unknown_status_is_refused_and_the_known_ones_are_listed(untouched: Shop) -> None:
    response = await untouched.get("/user/user_123/payments?status=paid")
    problem = refused(response, 422, "validation_error")
    assert "partially_refunded" in problem["detail"]


@pytest.mark.parametrize(
    "path", ["/payment/%00", "/payment/a%0Ab", "/user/%00/payments", "/user/a%7F/orders"]
)
async def test_control_characters_in_a_path_are_refused(untouched: Shop, path: str) -> None:
    refused(await untouched.get(path), 422, "validation_error")


async def test_longest_user_id_of_the_path_is_the_one_of_the_body(untouched: Shop) -> None:
    ok(await untouched.get(f"/user/{'u' * 128}/payments"))
    refused(await untouched.get(f"/user/{'u' * 129}/payments"), 422, "validation_error")


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x7f", "cl\xe9"])
async def test_idempotency_key_that_is_not_printable_or_too_long_is_refused(
    untouched: Shop, key: str
) -> None:
    for path in POSTS:
        response = await untouched.client.post(
            BASE_PATH + path,
            json=GOOD[path],
            headers=[(b"Idempotency-Key", key.encode("latin-1"))],
        )
        problem = refused(response, 422, "validation_error")
        assert names_field(problem, "Idempotency-Key")


# Size


@pytest.mark.shop(settings={"max_body_bytes": 2000})
@pytest.mark.parametrize("path", [*POSTS, "/webhook/stripe"])
async def test_body_over_the_limit_is_refused_whether_announced_or_not(
    untouched: Shop, path: str
) -> None:
    body = json.dumps({"user_id": "user_123", "padding": "x" * 2000}).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    for content in (body, in_pieces()):
        response = await untouched.client.post(BASE_PATH + path, content=content, headers=JSON)
        problem = refused(response, 413, "body_too_large")
        assert "2000" in problem["detail"]


async def test_body_just_within_the_limit_is_taken(shop: Shop) -> None:
    body = {**GOOD["/create-payment-intent"], "padding": ""}
    body["padding"] = "x" * (shop.settings.max_body_bytes - len(json.dumps(body)))
    content = json.dumps(body)
    assert len(content) == shop.settings.max_body_bytes
    ok(await send(shop, "/create-payment-intent", content))
    refused(await send(shop, "/create-payment-intent", content + " "), 413, "body_too_large")


# What is refused after it was understood


async def test_payment_of_someone_else_at_stripe_is_never_shown_confirmed_or_refunded(
    shop: Shop,
) -> None:
    async with httpx.AsyncClient(
        base_url=shop.settings.stripe_api_base, headers={"Authorization": "Bearer sk_test_other"}
    ) as other:
        intent = (
            await other.post("/v1/payment_intents", data={"amount": "999", "currency": "usd"})
        ).json()["id"]
    asked = len(shop.stripe.requests)
    body = {"payment_intent_id": intent, "payment_method_id": "pm_card_visa"}
    refused(await shop.post("/confirm-payment", body), 404, "payment_not_found")
    refused(await shop.get(f"/payment/{intent}"), 404, "payment_not_found")
    refused(await shop.post("/refund", {"payment_id": intent}), 404, "payment_not_found")
    refused(await shop.get("/checkout-session/cs_test_x"), 404, "checkout_session_not_found")
    assert len(shop.stripe.requests) == asked, "Stripe was asked about somebody else's payment"
    assert await shop.stored("payments") == []


async def test_refused_credits_payment_leaves_nothing_behind(untouched: Shop) -> None:
    body = {"user_id": "user_456", "items": [book()]}
    problem = refused(await untouched.post("/pay-with-credits", body), 402, "insufficient_credits")
    assert (problem["required"], problem["available"]) == (1, 0)
    body["user_id"] = "nobody"
    refused(await untouched.post("/pay-with-credits", body), 404, "user_not_found")
