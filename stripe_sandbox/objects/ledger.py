"""Balance transactions and the balance they add up to (https://docs.stripe.com/api/balance)."""

from collections import defaultdict

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.store import Collection, Record
from stripe_sandbox.objects.resource import Account
from stripe_sandbox.protocol.errors import no_such
from stripe_sandbox.protocol.lists import list_page
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Kind,
    NotSimulated,
    Params,
    Range,
    Text,
)

_DAY = 24 * 3600
_PAYOUT_DELAY = 2 * _DAY

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "currency": Text(),
    "payout": NotSimulated(),
    "source": Text(),
    "type": Text(),
}


class Ledger:
    """Charges become available two days later, at midnight UTC; pending sums are kept per day."""

    def __init__(self, account: Account) -> None:
        self._clock = account.clock
        self._ids = account.ids
        self._transactions: Collection[Record] = Collection(
            capacity=account.config.capacity, indexes={"source": lambda booked: booked["source"]}
        )
        self._available: defaultdict[str, int] = defaultdict(int)
        self._pending: defaultdict[int, defaultdict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )

    def record(
        self,
        type: str,
        source: str,
        amount: int,
        currency: str,
        *,
        fee: int = 0,
        description: str | None = None,
        available: bool = False,
        reporting_category: str | None = None,
        fee_description: str = "Stripe processing fees",
    ) -> str:
        """Book an amount (negative when it leaves) and answer the transaction's id."""
        now = self._clock.timestamp()
        available_on = now if available else (now + _PAYOUT_DELAY) // _DAY * _DAY
        fees = (
            [
                {
                    "amount": fee,
                    "application": None,
                    "currency": currency,
                    "description": fee_description,
                    "type": "stripe_fee",
                }
            ]
            if fee
            else []
        )
        transaction = build(
            "balance_transaction",
            id=self._ids.new("txn", family="3"),
            amount=amount,
            available_on=available_on,
            created=now,
            currency=currency,
            description=description,
            fee=fee,
            fee_details=fees,
            net=amount - fee,
            reporting_category=reporting_category or type,
            source=source,
            status="available" if available else "pending",
            type=type,
        )
        self._transactions.add(Record(transaction))
        if available:
            self._available[currency] += amount - fee
        else:
            self._pending[available_on][currency] += amount - fee
        id: str = transaction["id"]
        return id

    def find(self, id: str) -> StripeObject | None:
        record = self._transactions.find(id)
        if record is None:
            return None
        if record.data["available_on"] <= self._clock.now():
            record.data["status"] = "available"
        return record.data

    def retrieve_transaction(self, params: Params, id: str) -> StripeObject:
        transaction = self.find(id)
        if transaction is None:
            raise no_such("balance transaction", id, "id")
        return transaction

    def list_transactions(self, params: Params) -> StripeObject:
        now = self._clock.now()
        page = list_page(
            self._transactions,
            params,
            "/v1/balance_transactions",
            noun="balance transaction",
            by=("source", "currency", "type"),
        )
        for booked in page["data"]:
            if booked["available_on"] <= now:
                booked["status"] = "available"
        return page

    def retrieve_balance(self, params: Params) -> StripeObject:
        now = self._clock.now()
        for day in [day for day in self._pending if day <= now]:
            for currency, net in self._pending.pop(day).items():
                self._available[currency] += net
        pending: defaultdict[str, int] = defaultdict(int)
        for sums in self._pending.values():
            for currency, net in sums.items():
                pending[currency] += net
        currencies = sorted({"usd", *self._available, *pending})

        def lines(sums: dict[str, int]) -> list[StripeObject]:
            return [
                {"amount": sums[c], "currency": c, "source_types": {"card": sums[c]}}
                for c in currencies
            ]

        return build(
            "balance",
            available=lines(self._available),
            connect_reserved=[{"amount": 0, "currency": c} for c in currencies],
            pending=lines(pending),
        )
