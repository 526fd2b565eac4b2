"""List answers (https://docs.stripe.com/api/pagination)."""

from collections.abc import Callable, Sequence

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.store import Collection, R
from stripe_sandbox.protocol.errors import invalid_param, no_such
from stripe_sandbox.protocol.params import Params

Filter = Callable[[StripeObject], bool]


def as_list(data: Sequence[StripeObject], url: str, *, has_more: bool = False) -> StripeObject:
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def having(name: str, wanted: object) -> Filter:
    """A filter on the value of one property."""
    return lambda data: data[name] == wanted


def created_within(bounds: dict[str, int]) -> Filter:
    """A filter on ``created`` by ``gt``, ``gte``, ``lt`` and ``lte``."""

    def matches(data: StripeObject) -> bool:
        created = data["created"]
        return (
            ("gt" not in bounds or created > bounds["gt"])
            and ("gte" not in bounds or created >= bounds["gte"])
            and ("lt" not in bounds or created < bounds["lt"])
            and ("lte" not in bounds or created <= bounds["lte"])
        )

    return matches


def list_page(
    collection: Collection[R],
    params: Params,
    url: str,
    *,
    noun: str,
    by: Sequence[str] = (),
    within: Sequence[R] | None = None,
    filters: Sequence[Filter] = (),
) -> StripeObject:
    """One page of what ``params`` ask for: of ``within``, where that is given already.

    ``by`` names the parameters that filter on the property of their name, an indexed one first.
    """
    if "starting_after" in params and "ending_before" in params:
        raise invalid_param(
            "You cannot specify both `starting_after` and `ending_before`.", "ending_before"
        )
    wanted = [(name, params[name]) for name in by if name in params]
    if wanted and within is None:
        within = collection.by(*wanted[0])
    every = [*filters, *(having(name, value) for name, value in wanted)]
    if "created" in params:
        every.append(created_within(params["created"]))

    def cursor(name: str) -> R | None:
        if name not in params:
            return None
        record = collection.find(params[name])
        if record is None:
            raise no_such(noun, params[name], name, status=400)
        return record

    records, has_more = collection.page(
        limit=params.get("limit", 10),
        starting_after=cursor("starting_after"),
        ending_before=cursor("ending_before"),
        within=within,
        matches=(lambda data: all(f(data) for f in every)) if every else None,
    )
    return as_list([record.data for record in records], url, has_more=has_more)
