"""Logs that machines can read and that hold nothing secret."""

import io
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from app.observability import (
    REDACTED,
    configure_logging,
    current_request_id,
    get_logger,
    redact,
    reset_request_id,
    scrub,
    set_request_id,
)

log = get_logger("app.tests")

SECRETS = {
    "secret key": "sk_test_" + "51HxYzABCDEFghijk",
    "live secret key": "sk_live_" + "51HxYzABCDEFghijk",
    "restricted key": "rk_live_" + "51HxYzABCDEFghijk",
    "masked key": "sk_test_" + "****hijk",
    "signing secret": "whsec_" + "abc+DEF/123=",
    "client secret": "pi_3NabcDEF_secret_XyZ123",
    "checkout client secret": "cs_test_a1b2c3_secret_XyZ123",
    "setup client secret": "seti_1Nabc_secret_XyZ123",
    "e-mail": "Reader.One+books@mail.example.co.uk",
    "e-mail beyond ASCII": "jürgen@bücher.example",
    "database URL": "mongodb://root:pa%20ss@db-0.internal:27017,db-1.internal/admin?x=1",
    "database URL, srv": "mongodb+srv://root:p@ss:word/@cluster.example.net/",
    "bearer token": "Bearer abcdefghijklmnopqrstuvwxyz",
    "lower-case bearer token": "bearer abcdef.ghijkl-mnop_qrs~t/uv+w==",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl",
    "card": "4242424242424242",
    "card in groups": "4242 4242 4242 4242",
    "card with dashes": "5555-5555-5555-4444",
    "American Express": "378282246310005",
    "card of 19 digits": "6304000000000000000",
}

HARMLESS = [
    "refund.created",
    "pi_3NabcDEFghiJKL",
    "cs_test_a1b2c3d4",
    "pk_test_51HxYzABC",
    "req_1234567890abcd",
    "The bearer token has expired; sign in again.",
    "Send a bearer token, or X-Internal-Service-Key.",
    "4242424242424241",
    "pay_4242424242424242",
    "1735689600000",
    "2025-01-01T00:00:00.000000Z",
    "2025-01-01 00:00:00",
    "b2f6a1c09d4e4f3c8a7d5e6f70819203",
    "12345678-1234-4234-8234-123456789012",
    "/api/v1/payment/payment/{payment_id}",
    "https://checkout.stripe.com/c/pay/cs_test_a1",
    "task_id, risk_level and disk_space",
    "user@localhost",
    "",
]


def event_of(**fields: Any) -> dict[str, Any]:
    return dict(redact(None, "info", dict(fields)))


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_secret_is_taken_out_of_any_text(secret: str) -> None:
    for text in (secret, f"before {secret} after", f"value='{secret}'", f"a={secret}"):
        scrubbed = scrub(text)
        assert secret not in scrubbed
        assert REDACTED in scrubbed
        remains = scrubbed.replace(REDACTED, "")
        assert not any(part in remains for part in (secret[-6:], secret[4:12]))


def test_text_around_a_secret_stays() -> None:
    assert scrub("Invalid key: sk_test_abc123, sorry") == f"Invalid key: {REDACTED}, sorry"
    assert scrub("Authorization: Bearer abcdefghijklmnop1234 sent").endswith(
        f"Bearer {REDACTED} sent"
    )
    assert scrub("GET https://u:p@host/path") == f"GET https://{REDACTED}@host/path"
    assert scrub("mail to a@b.example please") == f"mail to {REDACTED} please"


def test_several_secrets_in_one_text_all_go() -> None:
    text = " | ".join(SECRETS.values())
    scrubbed = scrub(text)
    assert not any(secret in scrubbed for secret in SECRETS.values())


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "client_secret",
        "clientSecret",
        "STRIPE_SECRET_KEY",
        "password",
        "passwd",
        "pwd",
        "token",
        "access_token",
        "Authorization",
        "proxy-authorization",
        "api_key",
        "apikey",
        "X-Internal-Service-Key",
        "internal_service_key",
        "email",
        "customer_email",
        "card",
        "card_number",
        "payment.card",
        "cvc",
        "cookie",
        "set-cookie",
        "stripe_signature",
        "mongodb_url",
        "database_uri",
        "credentials",
        "jwt",
    ],
)
def test_value_under_a_sensitive_key_is_hidden(key: str) -> None:
    assert event_of(**{key: "anything"})[key] == REDACTED
    assert event_of(outer={key: ["anything"]})["outer"][key] == REDACTED
    assert event_of(**{key: 123})[key] == REDACTED


@pytest.mark.parametrize(
    "key",
    [
        "payment_id",
        "stripe_payment_intent_id",
        "idempotency_key",
        "publishable_key",
        "decline_code",
        "discarded",
        "cardinality",
        "credits",
        "amount",
        "panel",
    ],
)
def test_value_under_an_ordinary_key_is_shown(key: str) -> None:
    assert event_of(**{key: "x1"})[key] == "x1"


def test_absence_of_a_secret_is_shown() -> None:
    fields = {"token": None, "has_secret": True, "password": ""}
    assert event_of(**fields) == fields


def test_numbers_stay_numbers() -> None:
    fields = {"amount": 4242424242424242, "duration_ms": 1.5, "livemode": False}
    assert event_of(**fields) == fields


def test_nested_values_are_searched() -> None:
    secret = SECRETS["client secret"]
    shown = event_of(
        body={"items": [{"note": f"see {secret}"}, (secret, {secret})], secret: 1, "n": 2}
    )
    assert secret not in json.dumps(shown)
    assert shown["body"]["n"] == 2


def test_endless_nesting_is_cut() -> None:
    nested: dict[str, Any] = {"password": "swordfish"}
    for _ in range(50):
        nested = {"deeper": nested}
    assert isinstance(json.dumps(event_of(body=nested)), str)
    loop: list[Any] = []
    loop.append(loop)
    assert isinstance(json.dumps(event_of(body=loop)), str)


def test_objects_are_searched_as_text() -> None:
    class Sneaky:
        def __repr__(self) -> str:
            return f"<Sneaky {SECRETS['secret key']}>"

    shown = event_of(
        error=ValueError(SECRETS["e-mail"]),
        thing=Sneaky(),
        held=SecretStr("swordfish"),
        raw=SECRETS["secret key"].encode(),
        at=datetime(2025, 1, 1, tzinfo=UTC),
    )
    assert shown["error"] == f"ValueError: {REDACTED}"
    assert shown["thing"] == f"<Sneaky {REDACTED}>"
    assert "swordfish" not in shown["held"]
    assert SECRETS["secret key"] not in shown["raw"]
    assert shown["at"] == "2025-01-01 00:00:00+00:00"


HOSTILE = ["ab_", "a", "a.b-", "4", "4 ", "4-", "://", "://a", "eyJ", "bearer ", "a@", "a@b.", "a."]
HOSTILE += ["whsec_", "sk_test_ ", "pi_a_secret ", "mongodb://", "é@", "(4242 ", "%", " "]


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_hostile_text_takes_no_long_time(piece: str) -> None:
    for text in (piece * 10_000, "x@" + piece * 10_000, "bearer" + piece * 10_000 + "@"):
        started_at = time.perf_counter()
        scrub(text)
        assert time.perf_counter() - started_at < 1


def test_event_is_one_line_of_json(logs: Any) -> None:
    log.info("refund.created", payment_id="pay_1", amount=1200, note="two\nlines \ud800 é")
    [line] = logs.text.splitlines()
    event = json.loads(line)
    assert event["event"] == "refund.created"
    assert (event["payment_id"], event["amount"]) == ("pay_1", 1200)
    assert (event["level"], event["logger"]) == ("info", "app.tests")
    assert datetime.fromisoformat(event["timestamp"]).utcoffset() is not None
    assert event["timestamp"].endswith("Z")
    assert "request_id" not in event


def test_request_id_and_bound_values_are_on_every_line(logs: Any) -> None:
    token = set_request_id("r-1")
    with structlog.contextvars.bound_contextvars(payment_id="pay_1"):
        log.info("payment.created")
        logging.getLogger("uvicorn.error").info("said by uvicorn")
    reset_request_id(token)
    for event in logs.events:
        assert (event["request_id"], event["payment_id"]) == ("r-1", "pay_1")
    assert len(logs.events) == 2
    assert current_request_id() is None


def test_exception_text_is_redacted(logs: Any) -> None:
    secret = SECRETS["client secret"]
    try:
        raise RuntimeError(f"could not confirm {secret}")
    except RuntimeError:
        log.exception("payment.failed")
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    assert secret not in logs.text
    for event in logs.events:
        assert f"RuntimeError: could not confirm {REDACTED}" in event["exception"]


def test_chained_cause_is_redacted_too(logs: Any) -> None:
    try:
        try:
            raise ValueError(SECRETS["database URL"])
        except ValueError as error:
            raise RuntimeError("away") from error
    except RuntimeError:
        log.exception("database.away")
    assert "pa%20ss" not in logs.text
    assert "direct cause" in logs.events[0]["exception"]


@pytest.mark.parametrize(
    "name", ["uvicorn", "uvicorn.error", "stripe", "pymongo", "asyncio", "any"]
)
def test_standard_library_loggers_share_the_output(logs: Any, name: str) -> None:
    logging.getLogger(name).warning("message of %s", SECRETS["secret key"])
    [event] = logs.events
    assert event["event"] == f"message of {REDACTED}"
    assert (event["logger"], event["level"]) == (name, "warning")


@pytest.mark.parametrize(
    "name", ["stripe", "pymongo", "pymongo.command", "aiohttp.client", "httpx", "httpcore.http11"]
)
def test_libraries_that_log_whole_bodies_stay_silent_below_warning(logs: Any, name: str) -> None:
    logging.getLogger(name).debug("body=...")
    logging.getLogger(name).info("body=...")
    assert logs.events == []


def test_uvicorns_own_access_log_is_off(logs: Any) -> None:
    logging.getLogger("uvicorn.access").info('"GET /payment/pay_1 HTTP/1.1" 200')
    assert logs.events == []


def test_level_holds_for_both_kinds_of_loggers(restored_logging: None) -> None:
    stream = io.StringIO()
    configure_logging("WARNING", json=True, stream=stream)
    log.info("below")
    logging.getLogger("uvicorn.error").info("below")
    log.warning("above")
    logging.getLogger("uvicorn.error").warning("above")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["above"] * 2


def test_error_level_is_not_lowered_for_the_libraries(restored_logging: None) -> None:
    stream = io.StringIO()
    configure_logging("ERROR", json=True, stream=stream)
    logging.getLogger("stripe").warning("below")
    assert stream.getvalue() == ""


def test_last_configuration_counts_and_nothing_is_written_twice(restored_logging: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("INFO", json=True, stream=first)
    log.info("one")
    configure_logging("INFO", json=True, stream=second)
    log.info("two")
    logging.getLogger("any").info("three")
    assert [json.loads(line)["event"] for line in first.getvalue().splitlines()] == ["one"]
    assert [json.loads(line)["event"] for line in second.getvalue().splitlines()] == [
        "two",
        "three",
    ]


def test_console_output_is_readable_and_redacted(restored_logging: None) -> None:
    stream = io.StringIO()
    configure_logging("DEBUG", json=False, stream=stream)
    try:
        raise RuntimeError(SECRETS["secret key"])
    except RuntimeError:
        log.exception("payment.failed", payment_id="pay_1", client_secret="x")
    text = stream.getvalue()
    assert "payment.failed" in text
    assert "payment_id=pay_1" in text
    assert "Traceback" in text
    assert SECRETS["secret key"] not in text
    assert f"client_secret={REDACTED}" in text


def test_output_goes_to_standard_output_by_default(
    restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", json=True)
    log.info("one")
    logging.getLogger("any").info("two")
    written = capsys.readouterr()
    assert [json.loads(line)["event"] for line in written.out.splitlines()] == ["one", "two"]
    assert written.err == ""


def test_unknown_level_is_refused(restored_logging: None) -> None:
    with pytest.raises(KeyError):
        configure_logging("LOUD", json=True)
