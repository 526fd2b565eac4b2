"""https://docs.stripe.com/api/pagination and https://docs.stripe.com/api/expanding_objects"""

from typing import Any

import pytest
import stripe

from stripe_sandbox.core.store import Collection, Record


async def intents(rig: Any, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        made = await rig.client.v1.payment_intents.create_async({"amount": 100, "currency": "usd"})
        ids.append(made.id)
    return ids


async def test_a_page_is_ten_newest_first(rig: Any) -> None:
    ids = await intents(rig, 12)
    page = await rig.client.v1.payment_intents.list_async()
    assert [intent.id for intent in page.data] == ids[:1:-1]
    assert (page.has_more, page.url, page.object) == (True, "/v1/payment_intents", "list")


async def test_pages_follow_one_another_in_both_directions(rig: Any) -> None:
    ids = await intents(rig, 5)
    listing = rig.client.v1.payment_intents.list_async
    older = await listing({"limit": 2, "starting_after": ids[3]})
    assert ([i.id for i in older.data], older.has_more) == ([ids[2], ids[1]], True)
    last = await listing({"limit": 2, "starting_after": ids[1]})
    assert ([i.id for i in last.data], last.has_more) == ([ids[0]], False)
    newer = await listing({"limit": 2, "ending_before": ids[1]})
    assert ([i.id for i in newer.data], newer.has_more) == ([ids[3], ids[2]], True)


async def test_the_sdks_auto_paging_visits_everything_once(rig: Any) -> None:
    ids = await intents(rig, 7)
    page = await rig.client.v1.payment_intents.list_async({"limit": 3})
    assert [intent.id async for intent in page.auto_paging_iter()] == ids[::-1]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"starting_after": "pi_unknown"}, "starting_after"),
        ({"starting_after": "pi_1", "ending_before": "pi_2"}, "ending_before"),
        ({"colour": "red"}, "colour"),
        ({"created": {"after": 1}}, "created[after]"),
    ],
)
async def test_what_makes_no_page_is_refused(rig: Any, params: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.list_async(params)
    assert refused.value.param == param


async def test_expansion_goes_several_levels_and_into_lists(rig: Any) -> None:
    intent = await rig.intent(capture_method="automatic")
    page = await rig.client.v1.payment_intents.list_async(
        {"expand": ["data.latest_charge.balance_transaction", "data.payment_method"]}
    )
    [found] = page.data
    assert found.latest_charge.balance_transaction.net == 941
    assert found.payment_method.card.last4 == "4242"
    plain = await rig.client.v1.payment_intents.retrieve_async(intent.id)
    assert isinstance(plain.latest_charge, str)


async def test_expanding_nothing_yet_stays_null(rig: Any) -> None:
    session = await rig.session(expand=["payment_intent", "customer"])
    assert (session.payment_intent, session.customer) == (None, None)


@pytest.mark.parametrize("path", ["amount", "colour", "data.latest_charge", "a.b.c.d.e"])
async def test_what_cannot_be_expanded_is_refused(rig: Any, path: str) -> None:
    intent = await rig.intent()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.retrieve_async(intent.id, {"expand": [path]})
    assert refused.value.param == "expand"


async def test_old_objects_leave_in_order_beyond_the_capacity(start: Any) -> None:
    rig = await start(capacity=5)
    ids = await intents(rig, 8)
    page = await rig.client.v1.payment_intents.list_async({"limit": 100})
    assert [intent.id for intent in page.data] == ids[:2:-1]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.payment_intents.retrieve_async(ids[0])
    assert refused.value.http_status == 404
    assert len(rig.sandbox.events.all()) == 5
    assert len(rig.sandbox.idempotency) == 5


def test_an_index_forgets_what_has_left_and_takes_what_comes_late() -> None:
    left: list[str] = []
    collection: Collection[Record] = Collection(
        capacity=3,
        indexes={"owner": lambda data: data["owner"]},
        on_evict=lambda record: left.append(record.id),
    )
    late = Record({"id": "0", "owner": None})
    collection.add(late)
    for number in range(1, 3):
        collection.add(Record({"id": str(number), "owner": "x"}))
    late.data["owner"] = "x"
    collection.reindex(late)
    assert [record.id for record in collection.by("owner", "x")] == ["0", "1", "2"]
    collection.add(Record({"id": "3", "owner": "y"}))
    assert [record.id for record in collection.by("owner", "x")] == ["1", "2"]
    assert (left, collection.find("0")) == (["0"], None)


async def test_timers_of_evicted_sessions_are_given_up(start: Any) -> None:
    rig = await start(capacity=2)
    first = await rig.session()
    for _ in range(2):
        await rig.session()
    rig.sandbox.clock.advance(25 * 3600)
    expired = {
        event["data"]["object"]["id"]
        for event in rig.sandbox.events.all("checkout.session.expired")
    }
    assert len(expired) == 2
    assert first.id not in expired
