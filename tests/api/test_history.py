"""What a user bought and paid: newest first, page by page."""

import base64
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.shop import Shop, ok, refused

LISTS = ["payments", "orders"]
ID = {"payments": "payment_id", "orders": "order_id"}


async def page(shop: Shop, kind: str, user_id: str = "user_123", **query: Any) -> dict[str, Any]:
    reply = ok(await shop.get(f"/user/{user_id}/{kind}", params=query))
    assert set(reply) == {kind, "count", "has_more", "next_cursor"}
    assert reply["count"] == len(reply[kind])
    assert (reply["next_cursor"] is not None) is reply["has_more"]
    return reply


async def walk(shop: Shop, kind: str, limit: int, **query: Any) -> list[list[str]]:
    """The ids on each page until there are no more."""
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        reply = await page(shop, kind, limit=limit, **cursor, **query)
        pages.append([record[ID[kind]] for record in reply[kind]])
        if not reply["has_more"]:
            return pages
        assert len(pages[-1]) == limit
        cursor = {"cursor": reply["next_cursor"]}


def joined(pages: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(pages))


async def buy(shop: Shop, count: int, user_id: str = "user_123") -> None:
    """Payments with an order each."""
    for _ in range(count):
        await shop.pay_with_credits(user_id=user_id)


async def newest_first(shop: Shop, kind: str) -> list[str]:
    """The ids as they should be listed, read from the store."""
    documents = await shop.stored(kind)
    documents.sort(key=lambda document: (document["created_at"], document["_id"]), reverse=True)
    return [document["_id"] for document in documents]


async def set_created_at(shop: Shop, kind: str, at: datetime) -> None:
    await shop.databases.payments[kind].update_many({}, {"$set": {"created_at": at}})


# Order and pages


@pytest.mark.parametrize("kind", LISTS)
async def test_history_is_listed_newest_first(shop: Shop, kind: str) -> None:
    for _ in range(3):
        await buy(shop, 1)
        shop.clock.advance(seconds=1)

    reply = await page(shop, kind)

    assert [record[ID[kind]] for record in reply[kind]] == await newest_first(shop, kind)
    times = [record["created_at"] for record in reply[kind]]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 3
    assert all(time.endswith("Z") for time in times)
    assert reply["has_more"] is False


async def test_listed_payment_is_the_payment(shop: Shop) -> None:
    paid = await shop.pay_by_card()

    assert (await page(shop, "payments"))["payments"] == [paid]
    (order,) = (await page(shop, "orders"))["orders"]
    assert order == {
        "order_id": paid["order_id"],
        "user_id": "user_123",
        "payment_id": paid["payment_id"],
        "items": [],
        "total_cents": 999,
        "total_credits": 0,
        "currency": "usd",
        "status": "paid",
        "payment_method": "card",
        "created_at": order["created_at"],
    }
    # Not compared as text: a whole second has no fraction.
    times = (paid["created_at"], order["created_at"], paid["updated_at"])
    created, ordered, updated = map(datetime.fromisoformat, times)
    assert created <= ordered <= updated


@pytest.mark.parametrize("kind", LISTS)
async def test_history_of_somebody_without_any_is_empty(shop: Shop, kind: str) -> None:
    await buy(shop, 1)

    assert (await page(shop, kind, "user_456"))[kind] == []
    assert (await page(shop, kind, "nobody"))[kind] == []


@pytest.mark.parametrize("kind", LISTS)
async def test_nobody_sees_the_history_of_another_user(shop: Shop, kind: str) -> None:
    await shop.databases.auth["users"].update_one({"_id": "user_456"}, {"$set": {"credits": 9}})
    await buy(shop, 2)
    await buy(shop, 3, "user_456")

    mine, theirs = await page(shop, kind), await page(shop, kind, "user_456")

    assert (mine["count"], theirs["count"]) == (2, 3)
    assert {record["user_id"] for record in mine[kind]} == {"user_123"}
    assert {record["user_id"] for record in theirs[kind]} == {"user_456"}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (6, [6, 1]), (7, [7]), (100, [7])]
)
async def test_pages_hold_everything_once(
    shop: Shop, kind: str, limit: int, sizes: list[int]
) -> None:
    await buy(shop, 7)

    pages = await walk(shop, kind, limit)

    assert [len(ids) for ids in pages] == sizes
    assert joined(pages) == await newest_first(shop, kind)


@pytest.mark.parametrize("kind", LISTS)
async def test_records_of_one_millisecond_are_neither_skipped_nor_repeated(
    shop: Shop, kind: str
) -> None:
    await buy(shop, 7)
    await set_created_at(shop, kind, datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC))

    for limit in (1, 2, 3):
        assert joined(await walk(shop, kind, limit)) == await newest_first(shop, kind)


@pytest.mark.parametrize("kind", LISTS)
async def test_records_that_come_in_between_neither_shift_nor_repeat_the_older_ones(
    shop: Shop, kind: str
) -> None:
    await buy(shop, 4)
    old = await newest_first(shop, kind)
    first = await page(shop, kind, limit=2)

    await buy(shop, 3)

    second = await page(shop, kind, limit=2, cursor=first["next_cursor"])
    seen = [record[ID[kind]] for record in first[kind] + second[kind]]
    assert seen == old
    assert second["has_more"] is False
    assert (await page(shop, kind))["count"] == 7


async def test_page_goes_on_where_it_stopped_when_its_last_record_is_gone(shop: Shop) -> None:
    await buy(shop, 4)
    ids = await newest_first(shop, "payments")
    first = await page(shop, "payments", limit=2)
    await shop.databases.payments["payments"].delete_one({"_id": ids[1]})

    second = await page(shop, "payments", limit=2, cursor=first["next_cursor"])

    assert [payment["payment_id"] for payment in second["payments"]] == ids[2:]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.shop(users=[{"_id": "user_123", "credits": 60}])
async def test_page_without_a_limit_holds_fifty(shop: Shop, kind: str) -> None:
    await buy(shop, 51)

    reply = await page(shop, kind)

    assert (reply["count"], reply["has_more"]) == (50, True)


# Filter


async def test_status_filters_the_payments_on_every_page(shop: Shop) -> None:
    made: dict[str, list[str]] = {"pending": [], "failed": [], "succeeded": []}
    for _ in range(3):
        made["pending"].append((await shop.create_intent())["payment_id"])
        declined = await shop.create_intent()
        refused(await shop.confirm(declined, "pm_card_visa_chargeDeclined"), 402, "card_declined")
        made["failed"].append(declined["payment_id"])
        made["succeeded"].append((await shop.pay_by_card())["payment_id"])

    for status, ids in made.items():
        found = await walk(shop, "payments", 2, status=status)
        assert [len(ids) for ids in found] == [2, 1]
        assert joined(found) == list(reversed(ids))
    assert (await page(shop, "payments", status="refunded"))["payments"] == []
    assert (await page(shop, "payments"))["count"] == 9


@pytest.mark.parametrize(
    "status",
    [
        "pending",
        "processing",
        "succeeded",
        "failed",
        "canceled",
        "partially_refunded",
        "refunded",
    ],
)
async def test_every_status_may_be_asked_for(shop: Shop, status: str) -> None:
    assert (await page(shop, "payments", status=status))["count"] == 0


@pytest.mark.parametrize("status", ["paid", "SUCCEEDED", "", "succeeded,failed"])
async def test_unknown_status_is_refused(shop: Shop, status: str) -> None:
    answer = await shop.get("/user/user_123/payments", params={"status": status})

    problem = refused(answer, 422, "validation_error")
    assert [error["field"] for error in problem["errors"]] == ["status"]


# Bounds


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("limit", ["0", "-1", "101", "1000000000000000000000", "ten", "1.5", ""])
async def test_limit_is_between_1_and_100(shop: Shop, kind: str, limit: str) -> None:
    answer = await shop.get(f"/user/user_123/{kind}", params={"limit": limit})

    problem = refused(answer, 422, "validation_error")
    assert [error["field"] for error in problem["errors"]] == ["limit"]


def cursor_of(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "pay_018f6d2c",
        "%%%",
        "größer",
        "a" * 501,
        cursor_of("no-number:pay_1"),
        cursor_of("12.5:pay_1"),
        cursor_of(b"\xff\xfe"),
        cursor_of(f"{10**30}:pay_1"),
        cursor_of(f"-{10**30}:pay_1"),
        cursor_of(f"{'9' * 300}:pay_1"),
    ],
)
async def test_cursor_that_was_not_made_here_is_refused(shop: Shop, kind: str, cursor: str) -> None:
    answer = await shop.get(f"/user/user_123/{kind}", params={"cursor": cursor})

    problem = refused(answer, 422, "validation_error")
    assert [error["field"] for error in problem["errors"]] == ["cursor"]


@pytest.mark.parametrize("kind", LISTS)
async def test_truncated_cursor_is_a_place_in_the_list_or_refused(shop: Shop, kind: str) -> None:
    await buy(shop, 3)
    first = await page(shop, kind, limit=1)

    for length in range(len(first["next_cursor"])):
        answer = await shop.get(
            f"/user/user_123/{kind}", params={"cursor": first["next_cursor"][:length]}
        )
        if answer.status_code != 200:
            refused(answer, 422, "validation_error")


@pytest.mark.parametrize("kind", LISTS)
async def test_cursor_of_another_user_shows_nothing_of_theirs(shop: Shop, kind: str) -> None:
    await shop.databases.auth["users"].update_one({"_id": "user_456"}, {"$set": {"credits": 9}})
    await buy(shop, 2)
    await buy(shop, 2, "user_456")
    theirs = await page(shop, kind, "user_456", limit=1)

    mine = await page(shop, kind, cursor=theirs["next_cursor"])

    assert {record["user_id"] for record in mine[kind]} == {"user_123"}


async def test_cursor_needs_no_escaping_in_a_url(shop: Shop) -> None:
    await buy(shop, 2)

    cursor = (await page(shop, "payments", limit=1))["next_cursor"]

    assert cursor.replace("-", "").replace("_", "").isalnum()
