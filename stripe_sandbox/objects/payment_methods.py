"""PaymentMethods (https://docs.stripe.com/api/payment_methods)."""

import hashlib
from typing import Any

from stripe_sandbox.core.api_objects import StripeObject, build, changes, copy_json
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects import instruments
from stripe_sandbox.objects.instruments import BANK_DEBIT, CARD, Instrument
from stripe_sandbox.objects.resource import Resource
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.lists import list_page
from stripe_sandbox.protocol.params import (
    ADDRESS,
    EXPAND,
    Email,
    Hash,
    Integer,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Params,
    Text,
    merge_metadata,
    whole_address,
)

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
DETACH: dict[str, Kind] = {"expand": EXPAND}
_BILLING = Hash(
    {
        "address": ADDRESS,
        "email": Email(unsettable=True),
        "name": Text(unsettable=True),
        "phone": Text(unsettable=True),
        "tax_id": Text(),
    }
)
_REDISPLAY = OneOf(("always", "limited", "unspecified"))
UPDATE: dict[str, Kind] = {
    "allow_redisplay": _REDISPLAY,
    "billing_details": _BILLING,
    "card": Hash(
        {
            "exp_month": Integer(minimum=1, maximum=12),
            "exp_year": Integer(),
            "networks": NotSimulated(),
        }
    ),
    "expand": EXPAND,
    "metadata": Metadata(),
    "us_bank_account": NotSimulated(),
}
CREATE: dict[str, Kind] = {
    "type": OneOf(("card",), required=True),
    "card": Hash(
        {
            "number": Text(required=True),
            "exp_month": Integer(required=True),
            "exp_year": Integer(required=True),
            "cvc": Text(),
        },
        required=True,
    ),
    "allow_redisplay": _REDISPLAY,
    "billing_details": _BILLING,
    "metadata": Metadata(),
    "expand": EXPAND,
}
_PREVIOUSLY_USED = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer "
    "attachment, shared with a connected account without Customer attachment, or was detached from "
    "a Customer. It may not be used again. To use a PaymentMethod multiple times, you must attach "
    "it to a Customer first."
)


class PaymentMethodRecord(Record):
    def __init__(self, data: StripeObject, instrument: Instrument) -> None:
        super().__init__(data)
        self.instrument = instrument
        self.spent = False
        """Paid with once, or detached. Without a customer it cannot pay again."""
        self.set_up = False
        """Authenticated once for payments without the customer present."""


def _card_error(message: str, code: str, param: str) -> ApiError:
    return ApiError(402, message, type="card_error", code=code, param=param, executed=False)


class PaymentMethods(Resource[PaymentMethodRecord]):
    url = "/v1/payment_methods"
    noun = "PaymentMethod"
    id_param = "payment_method"
    indexes = ("customer",)
    listed_by = ("customer", "allow_redisplay", "type")

    def mint(
        self,
        instrument: Instrument,
        *,
        number: str | None = None,
        billing: dict[str, Any] | None = None,
        exp_month: int = 12,
        exp_year: int | None = None,
        metadata: dict[str, str] | None = None,
        allow_redisplay: str = "unspecified",
    ) -> PaymentMethodRecord:
        """A new PaymentMethod: using ``pm_card_visa`` makes one each time."""
        given = billing or {}
        details = build("billing_details", **{k: v for k, v in given.items() if k != "address"})
        details["address"].update(given.get("address") or {})
        data = build(
            "payment_method",
            id=self._ids.new("pm"),
            allow_redisplay=allow_redisplay,
            billing_details=details,
            created=self._clock.timestamp(),
            metadata=metadata or {},
            type=instrument.type,
        )
        if instrument.type == CARD:
            year = exp_year or self._current_year() + 4
            shown = number or instrument.numbers[0]
            data["card"] = _card(instrument, shown, exp_month, year)
        else:
            del data["card"]
            data[instrument.type] = _other_details(instrument)
        return self._records.add(PaymentMethodRecord(data, instrument))

    def use(self, id: str, param: str = "payment_method") -> PaymentMethodRecord:
        """The PaymentMethod an API caller names, minted when it is one of the test ids."""
        instrument = instruments.by_id(id)
        if instrument is not None:
            return self.mint(instrument)
        record = self.named(id, param, status=400)
        if record.spent and record.data["customer"] is None:
            raise ApiError(400, _PREVIOUSLY_USED, param=param)
        return record

    # Customers' own (https://docs.stripe.com/api/payment_methods/attach)

    def attachable(self, id: str) -> PaymentMethodRecord:
        """The method to attach. A card that simulates an issuer's decline cannot be attached.

        https://docs.stripe.com/testing#declined-payments
        """
        instrument = instruments.by_id(id)
        record = self.named(id) if instrument is None else self.mint(instrument)
        decline = record.instrument.attach_decline
        if decline is not None:
            raise ApiError(
                402,
                decline.message,
                type="card_error",
                code=decline.code,
                decline_code=decline.decline_code,
                advice_code=decline.advice_code,
                network_decline_code=decline.network_decline_code,
            )
        return record

    def attach_to(self, record: PaymentMethodRecord, customer_id: str) -> None:
        """Again to the same customer is nothing new; a spent or foreign one is refused."""
        method = record.data
        if method["customer"] == customer_id:
            return
        if method["customer"] is not None:
            raise ApiError(
                400, "The payment method you provided has already been attached to a customer."
            )
        if record.spent:
            raise ApiError(400, _PREVIOUSLY_USED)
        method["customer"] = customer_id
        if record.instrument.type == CARD:
            method["card"]["checks"]["cvc_check"] = record.instrument.check("cvc_check")
        self._records.reindex(record)
        self._events.emit("payment_method.attached", method)

    def detach(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        if record.data["customer"] is None:
            raise ApiError(
                400,
                "The payment method you provided is not attached to a customer so detachment is "
                "impossible.",
            )
        self._detach(record)
        return record.data

    def detach_all(self, customer_id: str) -> None:
        for record in list(self._records.by("customer", customer_id)):
            if record.data["customer"] == customer_id:
                self._detach(record)

    def check_owner(self, id: str, customer_id: str, param: str) -> None:
        record = self.named(id, param, status=400)
        if record.data["customer"] != customer_id:
            raise ApiError(
                400,
                f"The customer does not have a payment method with the ID {id}. The payment method "
                "must be attached to the customer.",
                code="resource_missing",
                param=param,
            )

    def list_of(self, customer_id: str | None, params: Params, url: str) -> StripeObject:
        return list_page(
            self._records,
            {**params, "customer": customer_id},
            url,
            noun=self.noun,
            by=self.listed_by,
            within=() if customer_id is None else None,
        )

    def update(self, params: Params, id: str) -> StripeObject:
        """https://docs.stripe.com/api/payment_methods/update: only what a customer has saved."""
        method = self.named(id).data
        if method["customer"] is None:
            raise ApiError(
                400,
                "You must save this PaymentMethod to a customer before you can update it.",
            )
        changed = copy_json(method)
        if "allow_redisplay" in params:
            changed["allow_redisplay"] = params["allow_redisplay"]
        details = params.get("billing_details") or {}
        for name, value in details.items():
            if name == "address":
                value = whole_address(value, changed["billing_details"]["address"])
            changed["billing_details"][name] = value
        if "card" in params and method["type"] == CARD:
            changed["card"].update(params["card"])
        changed["metadata"] = merge_metadata(method["metadata"], params.get("metadata"))
        before = changes(method, changed)
        if before:
            method.update(changed)
            self._events.emit("payment_method.updated", method, previous=before)
        return method

    def _detach(self, record: PaymentMethodRecord) -> None:
        previous = record.data["customer"]
        record.data["customer"] = None
        record.spent = True
        self._events.emit("payment_method.detached", record.data, previous={"customer": previous})

    def create(self, params: Params, *, publishable: bool) -> StripeObject:
        """What Stripe.js does with a card form. A server may not send card numbers."""
        if not publishable:
            raise ApiError(
                402,
                "Sending credit card numbers directly to the Stripe API is generally unsafe. We "
                "suggest you use test tokens that map to the test card you are using, see "
                "https://stripe.com/docs/testing.",
                executed=False,
            )
        card = params["card"]
        number = card["number"].replace(" ", "")
        if not number.isdigit() or not instruments.passes_luhn(number):
            raise _card_error("Your card number is incorrect.", "incorrect_number", "number")
        year = card["exp_year"] + 2000 if card["exp_year"] < 100 else card["exp_year"]
        if not 1 <= card["exp_month"] <= 12:
            raise _card_error(
                "Your card's expiration month is invalid.", "invalid_expiry_month", "exp_month"
            )
        if self.is_past(card["exp_month"], year) or year > self._current_year() + 50:
            raise _card_error(
                "Your card's expiration year is invalid.", "invalid_expiry_year", "exp_year"
            )
        instrument = instruments.by_number(number)
        if instrument is None or instrument.type != CARD:
            raise _card_error(
                "Your card was declined. Your request was in test mode, but used a non test card. "
                "For a list of valid test cards, visit: https://stripe.com/docs/testing.",
                "card_declined",
                "number",
            )
        cvc = card.get("cvc")
        if cvc is not None and (not cvc.isdigit() or len(cvc) != cvc_length(instrument)):
            raise _card_error("Your card's security code is invalid.", "invalid_cvc", "cvc")
        return self.mint(
            instrument,
            number=number,
            billing=params.get("billing_details"),
            exp_month=card["exp_month"],
            exp_year=year,
            metadata=merge_metadata({}, params.get("metadata")),
            allow_redisplay=params.get("allow_redisplay", "unspecified"),
        ).data

    def retrieve(self, params: Params, id: str) -> StripeObject:
        instrument = instruments.by_id(id)
        record = self.named(id) if instrument is None else self.mint(instrument)
        return record.data

    def is_past(self, month: int, year: int) -> bool:
        now = self._clock.today()
        return (year, month) < (now.year, now.month)

    def _current_year(self) -> int:
        return self._clock.today().year


def cvc_length(instrument: Instrument) -> int:
    return 4 if instrument.brand == "amex" else 3


def _fingerprint(number: str) -> str:
    """Stable for a number, without showing it."""
    return hashlib.sha256(number.encode()).hexdigest()[:16]


def _other_details(instrument: Instrument) -> StripeObject:
    if instrument.type == "boleto":
        return {"tax_id": "000.000.000-00"}
    if instrument.type != BANK_DEBIT:
        return {}
    [number] = instrument.numbers
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": _fingerprint(number),
        "last4": number[-4:],
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {},
    }


def _card(instrument: Instrument, number: str, month: int, year: int) -> StripeObject:
    checks = {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": None}
    return build(
        "payment_method.card",
        brand=instrument.brand,
        checks=checks,
        country=instrument.country,
        display_brand=instrument.brand,
        exp_month=month,
        exp_year=year,
        fingerprint=_fingerprint(number),
        funding=instrument.funding,
        last4=number[-4:],
        networks={"available": [instrument.brand], "preferred": None},
    )
