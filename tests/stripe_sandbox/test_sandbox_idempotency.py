"""https://docs.stripe.com/api/idempotent_requests"""

import asyncio
from typing import Any

import httpx
import pytest
import stripe

INTENT = {"amount": 1000, "currency": "usd"}
PATH = "/v1/payment_intents"


async def create(rig: Any, key: str, **params: Any) -> Any:
    return await rig.client.v1.payment_intents.create_async(
        {**INTENT, **params}, {"idempotency_key": key}
    )


async def post(rig: Any, key: str, path: str = PATH, **params: Any) -> Any:
    return await rig.http.post(
        path,
        data={**INTENT, **params} if path == PATH else params,
        headers={"Idempotency-Key": key},
    )


async def test_second_use_of_a_key_gets_the_first_answer_and_does_nothing(rig: Any) -> None:
    first, second = await post(rig, "k"), await post(rig, "k")
    assert second.content == first.content
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Original-Request"] == first.headers["Request-Id"]
    assert second.headers["Request-Id"] != first.headers["Request-Id"]
    assert second.headers["Idempotency-Key"] == "k"
    assert rig.sandbox.events.types() == ["payment_intent.created"]
    assert [request.replayed for request in rig.sandbox.requests] == [False, True]


async def test_the_order_of_params_does_not_matter(rig: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await rig.http.post(PATH, data={"amount": 100, "currency": "usd"}, headers=headers)
    second = await rig.http.post(PATH, data={"currency": "usd", "amount": 100}, headers=headers)
    assert first.json()["id"] == second.json()["id"]


async def test_a_decline_is_replayed(rig: Any) -> None:
    answers = [
        await post(
            rig,
            "k",
            payment_method="pm_card_chargeDeclined",
            confirm="true",
            return_url="https://shop.example",
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [402, 402]
    assert answers[0].content == answers[1].content
    assert len(rig.sandbox.events.all("charge.failed")) == 1


async def test_a_refused_state_is_replayed_even_when_it_has_changed(rig: Any) -> None:
    intent = await rig.intent("pm_usBankAccount")
    params = {"payment_intent": intent.id}
    first = await post(rig, "k", "/v1/refunds", **params)
    rig.sandbox.settle(intent.id)
    second = await post(rig, "k", "/v1/refunds", **params)
    assert first.status_code == second.status_code == 400
    assert (await post(rig, "k2", "/v1/refunds", **params)).status_code == 200


async def test_a_session_is_replayed_although_its_expiry_would_be_too_near_by_now(
    rig: Any, line_item: Any
) -> None:
    """https://docs.stripe.com/api/idempotent_requests: what was saved is not checked again."""
    params = {
        "success_url": "https://shop.example",
        "line_items": [line_item()],
        "expires_at": rig.sandbox.clock.timestamp() + 1_860,
    }
    create = rig.client.v1.checkout.sessions.create_async
    first = await create(params, {"idempotency_key": "k"})
    rig.sandbox.clock.advance(600)
    second = await create(params, {"idempotency_key": "k"})
    assert second.id == first.id
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await create(params, {"idempotency_key": "k2"})
    assert refused.value.param == "expires_at"
    later = {**params, "expires_at": rig.sandbox.clock.timestamp() + 1_860}
    assert (await create(later, {"idempotency_key": "k2"})).status == "open"


async def test_second_use_of_a_key_with_other_params_is_refused(rig: Any) -> None:
    await create(rig, "k")
    with pytest.raises(stripe.IdempotencyError) as refused:
        await create(rig, "k", amount=2000)
    assert refused.value.http_status == 400
    error: Any = refused.value.error
    assert error.type == "idempotency_error"
    assert "same parameters they were first used with" in error.message
    assert "Try using a key other than 'k'" in error.message
    assert len(rig.sandbox.events.all()) == 1


async def test_use_of_a_key_on_another_endpoint_is_refused(rig: Any) -> None:
    intent = await create(rig, "k")
    with pytest.raises(stripe.IdempotencyError) as refused:
        await rig.client.v1.payment_intents.cancel_async(intent.id, {}, {"idempotency_key": "k"})
    error: Any = refused.value.error
    assert f"('{PATH}' vs '{PATH}/{intent.id}/cancel')" in error.message


async def test_use_of_a_key_on_another_object_is_refused(rig: Any) -> None:
    one, two = await create(rig, "a"), await create(rig, "b")
    cancel = rig.client.v1.payment_intents.cancel_async
    await cancel(one.id, {}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        await cancel(two.id, {}, {"idempotency_key": "k"})


async def test_a_key_whose_request_is_still_running_is_in_use(rig: Any) -> None:
    rig.sandbox.faults.add("latency", seconds=0.15)
    first = asyncio.create_task(post(rig, "k"))
    await rig.eventually(lambda: len(rig.sandbox.idempotency))
    conflict = await post(rig, "k")
    assert conflict.status_code == 409
    error = conflict.json()["error"]
    assert error["code"] == "idempotency_key_in_use"
    assert "Please try again later." in error["message"]
    assert "Stripe-Should-Retry" not in conflict.headers
    done = await first
    replay = await post(rig, "k")
    assert (done.status_code, replay.json()["id"]) == (200, done.json()["id"])


async def test_the_sdk_sees_a_key_in_use_as_an_api_error(rig: Any) -> None:
    rig.sandbox.faults.add("latency", seconds=0.1)
    outcomes = await asyncio.gather(create(rig, "k"), create(rig, "k"), return_exceptions=True)
    failures: list[Any] = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert [type(failure) for failure in failures] == [stripe.APIError]
    assert failures[0].error.code == "idempotency_key_in_use"


@pytest.mark.parametrize(
    "invalid", [{"amount": "x"}, {"amount": "1"}, {"colour": "red"}, {"currency": "xxx"}]
)
async def test_a_validation_failure_is_not_kept(rig: Any, invalid: dict[str, str]) -> None:
    refused = await post(rig, "k", **invalid)
    assert refused.status_code == 400
    assert (await post(rig, "k")).status_code == 200


async def test_a_refused_login_is_not_kept(rig: Any) -> None:
    headers = {"Idempotency-Key": "k", "Authorization": "Bearer wrong"}
    assert (await rig.http.post(PATH, data=INTENT, headers=headers)).status_code == 401
    assert (await post(rig, "k")).status_code == 200


@pytest.mark.parametrize("kind", ["rate_limit", "lock_timeout", "error_before", "drop_before"])
async def test_a_failure_before_execution_is_not_kept(rig: Any, kind: Any) -> None:
    rig.sandbox.faults.add(kind)
    with pytest.raises(stripe.StripeError):
        await create(rig, "k")
    assert rig.sandbox.events.all() == []
    assert (await create(rig, "k")).status == "requires_payment_method"
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_a_server_error_is_kept(rig: Any) -> None:
    rig.sandbox.faults.add("error_after")
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            await create(rig, "k")
        assert failed.value.http_status == 500
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_an_answer_that_got_lost_is_replayed(rig: Any) -> None:
    rig.sandbox.faults.add("drop_after")
    with pytest.raises(stripe.APIConnectionError):
        await create(rig, "k")
    found = await create(rig, "k")
    assert found.last_response.headers["idempotent-replayed"] == "true"
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_the_sdks_own_retries_have_one_effect(rig: Any) -> None:
    rig.sandbox.faults.add("drop_after")
    intent = await rig.client.v1.payment_intents.create_async(INTENT, {"max_network_retries": 2})
    assert intent.status == "requires_payment_method"
    assert len(rig.sandbox.requests) == 2
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_a_caller_that_gave_up_finds_the_work_done(rig: Any) -> None:
    rig.sandbox.faults.add("latency", seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await create(rig, "k")
    await rig.eventually(rig.sandbox.events.all)
    found = await create(rig, "k")
    assert found.last_response.headers["idempotent-replayed"] == "true"
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_keys_are_forgotten_after_a_day(rig: Any) -> None:
    first = await create(rig, "k")
    rig.sandbox.clock.advance(24 * 3600 - 60)
    assert (await create(rig, "k")).id == first.id
    rig.sandbox.clock.advance(120)
    assert (await create(rig, "k")).id != first.id


async def test_keys_of_two_accounts_do_not_meet(rig: Any) -> None:
    first = await create(rig, "k")
    second = await rig.client.v1.payment_intents.create_async(
        INTENT, {"idempotency_key": "k", "stripe_account": "acct_1"}
    )
    assert first.id != second.id


async def test_a_key_has_at_most_255_characters(rig: Any) -> None:
    assert (await post(rig, "k" * 255)).status_code == 200
    assert (await post(rig, "k" * 256)).status_code == 400


async def test_a_get_takes_no_notice_of_a_key(rig: Any) -> None:
    intent = await create(rig, "k")
    found = await rig.client.v1.payment_intents.retrieve_async(
        intent.id, {}, {"idempotency_key": "k"}
    )
    assert found.id == intent.id


async def test_what_was_begun_a_day_ago_does_not_free_the_key_for_a_third(rig: Any) -> None:
    """The first use is still running when its key is forgotten and used anew."""
    rig.sandbox.faults.add("latency", seconds=0.1)
    rig.sandbox.faults.add("drop_before")
    first = asyncio.create_task(post(rig, "k"))
    await rig.eventually(lambda: len(rig.sandbox.idempotency) == 1)
    rig.sandbox.clock.advance(25 * 3600)
    second = await post(rig, "k")
    with pytest.raises(httpx.TransportError):
        await first
    third = await post(rig, "k")
    assert third.json() == second.json()
    assert rig.sandbox.events.types() == ["payment_intent.created"]
