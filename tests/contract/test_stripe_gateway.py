"""The gateway against real HTTP: the sandbox, and a server that breaks answers byte by byte."""

import asyncio
import contextlib
import gc
import typing
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import stripe
from stripe.params import (
    EventListParams,
    PaymentIntentCancelParams,
    PaymentIntentConfirmParams,
    PaymentIntentCreateParams,
    RefundCreateParams,
    RefundListParams,
)
from stripe.params.checkout import SessionCreateParams, SessionExpireParams
from typing_extensions import is_typeddict

from app.domain.cart import CartItem
from app.domain.ids import new_id
from app.domain.payments import (
    CheckoutDetails,
    ElementsDetails,
    Payment,
    PaymentFlow,
    PaymentStatus,
)
from app.domain.refunds import Refund, RefundStatus
from app.errors import (
    DependencyFailure,
    PaymentServiceError,
    StripeFailed,
    StripeNotConfigured,
    StripeTimeout,
)
from app.gateways.payments import (
    AttemptDeclined,
    IntentSnapshot,
    PaymentGateway,
    StripeObjectMissing,
    StripeRefused,
)
from app.gateways.stripe import open_stripe_gateway
from app.metrics import Metrics
from app.settings import Settings
from stripe_sandbox import Sandbox, SandboxConfig, serve

NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
NO_RETRY: Final = {"Stripe-Should-Retry": "false"}

pytestmark = pytest.mark.usefixtures("quick_retries")


def settings_for(base: str, **fields: Any) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "stripe_secret_key": "sk_test_suite",
            "stripe_api_base": base,
            "stripe_timeout_seconds": 5.0,
            **fields,
        },
    )


@contextlib.asynccontextmanager
async def opened(base: str, **fields: Any) -> AsyncIterator[PaymentGateway]:
    settings = settings_for(base, **fields)
    metrics = Metrics(version="0", stripe_mode="test")
    async with open_stripe_gateway(settings, metrics, deployment="contract") as gateway:
        yield gateway


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(SandboxConfig(balance_transaction_seconds=0.01))
    async with serve(sandbox):
        yield sandbox


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PaymentGateway]:
    async with opened(sandbox.public_url) as gateway:
        yield gateway


def payment(flow: PaymentFlow = PaymentFlow.PAYMENT_INTENT, **fields: Any) -> Payment:
    return Payment(
        **{
            "payment_id": new_id("pay_"),
            "user_id": "user_123",
            "flow": flow,
            "status": PaymentStatus.PENDING,
            "amount": 999,
            "currency": "usd",
            "items": (CartItem("dune", 1, 999, 1, "Dune"),),
            "metadata": {"campaign": "spring"},
            "created_at": NOW,
            "updated_at": NOW,
            **fields,
        }
    )


def refund(**fields: Any) -> Refund:
    values = {"refund_id": new_id("rfd_"), "amount": 99, "credits": 0, "reason": None, **fields}
    return Refund(status=RefundStatus.PENDING, created_at=NOW, updated_at=NOW, **values)


def checkout(customer_email: str | None = None, locale: str | None = None) -> Payment:
    page = "http://localhost:5173/checkout"
    details = CheckoutDetails(f"{page}/success", f"{page}/cancel", customer_email, locale)
    return payment(PaymentFlow.CHECKOUT_SESSION, checkout=details)


async def paid(gateway: PaymentGateway) -> Payment:
    made = payment()
    intent = await gateway.create_payment_intent(made)
    await gateway.confirm_payment_intent(
        intent.stripe_payment_intent_id, payment_method="pm_card_visa", confirmation_id="att_1"
    )
    return made.with_payment_intent(intent.stripe_payment_intent_id, now=NOW)


# What we send

IDS: Final = ("pi_", "cs_", "re_", "ch_")


# Names that the SDK imports for type checkers only.
ONLY_FOR_TYPE_CHECKERS: Final = {"StripeContext": object, "Mapping": Mapping}


def unknown_params(params: Mapping[str, Any], typed: Any, path: str = "") -> Iterable[str]:
    """The names in ``params`` that the SDK's typed parameters do not have."""
    known = typing.get_type_hints(typed, localns=ONLY_FOR_TYPE_CHECKERS)
    for option in stripe.RequestOptions.__annotations__:
        known.pop(option, None)
    for name, value in params.items():
        where = f"{path}{name}"
        if name not in known:
            yield where
            continue
        nested = typed_dict_in(known[name])
        if nested is not None:
            for each in elements(value):
                yield from unknown_params(each, nested, f"{where}.")


def elements(value: Any) -> Iterable[Mapping[str, Any]]:
    """An object itself, or those of an array, which a form numbers: ``line_items[0][quantity]``."""
    if isinstance(value, Mapping) and not all(name.isdigit() for name in value):
        return [value]
    return value.values() if isinstance(value, Mapping) else value


def typed_dict_in(hint: Any) -> Any:
    """The TypedDict behind NotRequired, List and Union, if there is one."""
    if is_typeddict(hint):
        return hint
    if typing.get_origin(hint) in (dict, typing.Literal):
        return None
    return next(filter(None, map(typed_dict_in, typing.get_args(hint))), None)


async def test_every_request_has_only_parameters_that_the_sdk_knows(
    sandbox: Sandbox, gateway: PaymentGateway
) -> None:
    one = await paid(gateway)
    intent_id = one.stripe_payment_intent_id or ""
    await gateway.retrieve_payment_intent(intent_id)
    other = await gateway.create_payment_intent(payment())
    await gateway.cancel_payment_intent(other.stripe_payment_intent_id, reason="abandoned")
    details = ElementsDetails("anna@example.com", "Order 17")
    await gateway.create_payment_intent(payment(elements=details))
    session = await gateway.create_checkout_session(checkout("anna@example.com", "pt-BR"))
    await gateway.retrieve_checkout_session(session.stripe_checkout_session_id)
    await gateway.expire_checkout_session(session.stripe_checkout_session_id)
    for reason in (None, "duplicate", "the shopper changed their mind"):
        made = await gateway.create_refund(one, refund(reason=reason))
    await gateway.retrieve_refund(made.stripe_refund_id)
    await gateway.list_refunds(intent_id)
    pages = gateway.list_events(["payment_intent.succeeded"], since=NOW)
    assert [event.type async for page in pages for event in page] == ["payment_intent.succeeded"]

    typed: dict[tuple[str, str], Any] = {
        ("POST", "/v1/payment_intents"): PaymentIntentCreateParams,
        ("POST", "/v1/payment_intents/*/confirm"): PaymentIntentConfirmParams,
        ("POST", "/v1/payment_intents/*/cancel"): PaymentIntentCancelParams,
        ("POST", "/v1/checkout/sessions"): SessionCreateParams,
        ("POST", "/v1/checkout/sessions/*/expire"): SessionExpireParams,
        ("POST", "/v1/refunds"): RefundCreateParams,
        ("GET", "/v1/refunds"): RefundListParams,
        ("GET", "/v1/events"): EventListParams,
    }
    seen = set()
    for request in sandbox.requests:
        path = "/".join("*" if part.startswith(IDS) else part for part in request.path.split("/"))
        seen.add((request.method, path))
        expected = typed.get((request.method, path))
        if expected is None:
            assert request.params == {}, path
        else:
            assert list(unknown_params(request.params, expected)) == [], path
        if request.method == "POST":
            assert request.idempotency_key, path
            assert len(request.idempotency_key) <= 255
    assert typed.keys() <= seen


def test_check_of_parameters_sees_what_it_must() -> None:
    wrong = {
        "mode": "payment",
        "payment_method_types": ["card"],
        "line_items": [{"price_data": {"unit_amount": 1, "name": "x"}}],
        "payment_intent_data": {"metadata": {"anything": "x"}, "amount": 1},
    }
    assert set(unknown_params(wrong, SessionCreateParams)) == {
        "payment_method_types",
        "line_items.price_data.name",
        "payment_intent_data.amount",
    }


async def test_request_is_for_the_pinned_api_version_with_our_keys(
    sandbox: Sandbox, gateway: PaymentGateway
) -> None:
    one = await paid(gateway)
    made = refund()
    await gateway.create_refund(one, made)
    keys = [request.idempotency_key for request in sandbox.requests]
    assert keys[0] == f"payment_intent:{one.payment_id}"
    assert keys[1] == "confirm:att_1"
    assert made.refund_id in (keys[2] or "")


@pytest.mark.parametrize("flow", ["payment_intent", "checkout_session"])
async def test_repeated_creation_is_one_object_at_stripe(
    sandbox: Sandbox, gateway: PaymentGateway, flow: str
) -> None:
    if flow == "payment_intent":
        one = payment()
        intents = [await gateway.create_payment_intent(one) for _ in range(2)]
        assert intents[0] == intents[1]
        assert intents[0].payment_id == one.payment_id
    else:
        one = checkout()
        sessions = [await gateway.create_checkout_session(one) for _ in range(2)]
        assert sessions[0] == sessions[1]
        assert sessions[0].payment_id == one.payment_id
    assert [request.replayed for request in sandbox.requests] == [False, True]


# What we make of the answers


def create(gateway: PaymentGateway) -> Any:
    return gateway.create_payment_intent(payment())


@dataclass(frozen=True)
class Told:
    """The problem that a caller gets for it."""

    status: int
    code: str
    retry_after: bool


def told(error: PaymentServiceError) -> Told:
    return Told(error.status, error.code, error.retry_after is not None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Told(502, "stripe_error", False)),
        (401, Told(502, "stripe_error", False)),
        (403, Told(502, "stripe_error", False)),
        (404, Told(502, "stripe_error", False)),
        (409, Told(502, "stripe_error", True)),
        (424, Told(502, "stripe_error", True)),
        (500, Told(502, "stripe_error", True)),
        (502, Told(502, "stripe_error", True)),
        (503, Told(502, "stripe_error", True)),
    ],
)
async def test_each_status_of_stripe_becomes_a_problem_of_ours(
    sandbox: Sandbox, gateway: PaymentGateway, status: int, expected: Told
) -> None:
    sandbox.faults.add("error_before", status=status, times=None, headers=NO_RETRY)
    with pytest.raises(PaymentServiceError) as raised:
        await create(gateway)
    assert told(raised.value) == expected
    assert isinstance(raised.value.__cause__, stripe.StripeError)
    assert isinstance(raised.value, StripeRefused) == (status in (400, 404))
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("kind", ["rate_limit", "lock_timeout"])
async def test_busy_stripe_is_asked_four_times_and_then_a_503(
    sandbox: Sandbox, gateway: PaymentGateway, kind: Any
) -> None:
    fault = sandbox.faults.add(kind, times=None)
    with pytest.raises(DependencyFailure) as raised:
        await create(gateway)
    assert told(raised.value) == Told(503, "stripe_error", True)
    assert fault.hits == 4
    assert len({request.idempotency_key for request in sandbox.requests}) == 1


async def test_missing_object_is_told_from_other_refusals(gateway: PaymentGateway) -> None:
    with pytest.raises(StripeObjectMissing) as raised:
        await gateway.retrieve_payment_intent("pi_none")
    assert raised.value.stripe_code == "resource_missing"


async def test_refusals_keep_stripes_code_and_parameter(gateway: PaymentGateway) -> None:
    one = await paid(gateway)
    with pytest.raises(StripeRefused) as too_much:
        await gateway.create_refund(one, refund(amount=1000))
    assert (too_much.value.stripe_code, too_much.value.param) == (None, "amount")
    with pytest.raises(StripeRefused) as again:
        await gateway.confirm_payment_intent(
            one.stripe_payment_intent_id or "",
            payment_method="pm_card_visa",
            confirmation_id="att_2",
        )
    assert again.value.stripe_code == "payment_intent_unexpected_state"


async def test_same_key_with_other_parameters_is_a_502_and_not_a_second_charge(
    sandbox: Sandbox, gateway: PaymentGateway
) -> None:
    one = payment()
    await gateway.create_payment_intent(one)
    with pytest.raises(StripeFailed) as raised:
        await gateway.create_payment_intent(payment(payment_id=one.payment_id, amount=1000))
    assert isinstance(raised.value.__cause__, stripe.IdempotencyError)
    assert told(raised.value) == Told(502, "stripe_error", False)
    assert len(sandbox.payment_intents.list({})["data"]) == 1


@pytest.mark.parametrize(
    ("payment_method", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
    ],
)
async def test_decline_comes_with_its_codes_and_the_intent_after_it(
    gateway: PaymentGateway, payment_method: str, code: str, decline_code: str | None
) -> None:
    intent: IntentSnapshot = await create(gateway)
    with pytest.raises(AttemptDeclined) as raised:
        await gateway.confirm_payment_intent(
            intent.stripe_payment_intent_id,
            payment_method=payment_method,
            confirmation_id="att_1",
        )
    failure, after = raised.value.failure, raised.value.intent
    assert failure.code == code
    if decline_code is not None:
        assert failure.decline_code == decline_code
    assert after is not None
    assert after.status == "requires_payment_method"
    assert after.failed_attempt
    assert after.failed_attempt.startswith("ch_")


async def test_closed_port_is_a_502_that_may_be_repeated() -> None:
    async with opened("http://127.0.0.1:1") as gateway:
        with pytest.raises(StripeFailed) as raised:
            await create(gateway)
    assert told(raised.value) == Told(502, "stripe_error", True)


async def test_without_a_key_stripe_is_not_asked(sandbox: Sandbox) -> None:
    async with opened(sandbox.public_url, stripe_secret_key="") as gateway:
        with pytest.raises(StripeNotConfigured):
            await create(gateway)
    assert len(sandbox.requests) == 0


async def test_client_is_told_of_a_time_out_within_the_deadline(sandbox: Sandbox) -> None:
    sandbox.faults.add("latency", seconds=1.0, times=None)
    async with opened(sandbox.public_url, stripe_timeout_seconds=0.1) as gateway:
        with pytest.raises(StripeTimeout) as raised:
            await create(gateway)
    assert told(raised.value) == Told(504, "stripe_timeout", True)
    assert sandbox.requests[0].status is None, "it waited for Stripe"


# Answers that break off


@contextlib.asynccontextmanager
async def broken_stripe(answer: bytes, *, hang_up: bool) -> AsyncIterator[str]:
    """Answers every request with these bytes, and then hangs up or says nothing more."""
    stopping = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if not hang_up:
                await stopping.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stopping.set()


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("answer", "hang_up", "expected"),
    [
        (b"", True, Told(502, "stripe_error", True)),
        (b"nonsense\r\n\r\n", True, Told(502, "stripe_error", True)),
        (HEAD + b"Content-Length: 100\r\n\r\n{", True, Told(502, "stripe_error", True)),
        (HEAD + b"Content-Length: 100\r\n\r\n{", False, Told(504, "stripe_timeout", True)),
        (HEAD, False, Told(504, "stripe_timeout", True)),
        (b"", False, Told(504, "stripe_timeout", True)),
        (HEAD + b"Content-Length: 6\r\n\r\n<html>", True, Told(502, "stripe_error", True)),
        (HEAD + b"Content-Length: 0\r\n\r\n", True, Told(502, "stripe_error", True)),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nStripe-Should-Retry: false\r\nContent-Length: 6\r\n\r\n"
            b"<html>",
            True,
            Told(502, "stripe_error", True),
        ),
    ],
    ids=[
        "hangs up",
        "no HTTP",
        "cut body",
        "stalled body",
        "stalled headers",
        "silent",
        "HTML with 200",
        "empty with 200",
        "HTML with 502",
    ],
)
# The SDK drops a response that it could not read instead of closing it; collecting it does that.
@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
async def test_broken_answer_leaves_the_outcome_open(
    answer: bytes, hang_up: bool, expected: Told
) -> None:
    timeout = 5.0 if hang_up else 0.2
    async with (
        broken_stripe(answer, hang_up=hang_up) as base,
        opened(base, stripe_timeout_seconds=timeout) as gateway,
    ):
        with pytest.raises(DependencyFailure) as raised:
            await create(gateway)
    assert told(raised.value) == expected
    assert not isinstance(raised.value, StripeRefused), "a refusal would be final"
    del raised
    gc.collect()
