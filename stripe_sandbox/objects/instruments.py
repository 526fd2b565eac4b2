"""The test cards and other ways to pay, one table: number, PaymentMethod ids, behaviour.

https://docs.stripe.com/testing
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from stripe_sandbox.objects.cards_by_country import CARDS_BY_COUNTRY

CARD: Final = "card"
BANK_DEBIT: Final = "us_bank_account"
BANK_TRANSFER: Final = "customer_balance"
MethodType = Literal[
    "card", "us_bank_account", "customer_balance", "boleto", "konbini", "multibanco", "oxxo"
]
_VOUCHERS: Mapping[str, str] = {
    "boleto": "brl", "konbini": "jpy", "multibanco": "eur", "oxxo": "mxn"
}  # fmt: skip
"""Each for its currency alone (https://docs.stripe.com/payments/vouchers)."""
_TRANSFER_CURRENCIES = ("eur", "gbp", "jpy", "mxn", "usd")
"""https://docs.stripe.com/payments/bank-transfers"""


@dataclass(frozen=True, slots=True)
class Decline:
    """https://docs.stripe.com/declines/codes"""

    code: str
    message: str
    decline_code: str | None = None
    outcome: Literal["issuer_declined", "blocked"] = "issuer_declined"
    advice_code: str | None = "try_again_later"
    network_decline_code: str | None = "01"


_DECLINED = "Your card was declined."

GENERIC = Decline("card_declined", _DECLINED, "generic_decline")
INSUFFICIENT_FUNDS = Decline(
    "card_declined", "Your card has insufficient funds.", "insufficient_funds",
    network_decline_code="51",
)  # fmt: skip
LOST_CARD = Decline(
    "card_declined", _DECLINED, "lost_card",
    advice_code="do_not_try_again", network_decline_code="41",
)  # fmt: skip
STOLEN_CARD = Decline(
    "card_declined", _DECLINED, "stolen_card",
    advice_code="do_not_try_again", network_decline_code="43",
)  # fmt: skip
VELOCITY = Decline(
    "card_declined",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount "
    "limit.",
    "card_velocity_exceeded",
    network_decline_code="65",
)
EXPIRED = Decline(
    "expired_card", "Your card has expired.",
    advice_code="do_not_try_again", network_decline_code="54",
)  # fmt: skip
INCORRECT_CVC = Decline(
    "incorrect_cvc", "Your card's security code is incorrect.",
    advice_code="confirm_card_data", network_decline_code="N7",
)  # fmt: skip
PROCESSING_ERROR = Decline(
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    network_decline_code="96",
)
RADAR_BLOCK = Decline(
    "card_declined", _DECLINED, "fraudulent", "blocked",
    advice_code=None, network_decline_code=None,
)  # fmt: skip
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
    advice_code=None,
    network_decline_code=None,
)
LOOKUP_ERROR = Decline("card_declined", _DECLINED, "processing_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A way to pay and what comes of it. ``ids`` are the PaymentMethod ids that stand for it."""

    ids: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    type: MethodType = "card"
    brand: str = "visa"
    country: str = "US"
    funding: str = "credit"
    decline: Decline | None = None
    three_d_secure: bool = False
    """Needs 3-D Secure when the customer is there."""
    off_session_decline: Decline | None = None
    risk_level: str = "normal"
    refund: Literal["succeeds", "pends", "fails"] = "succeeds"
    dispute: str | None = None
    inquiry: bool = False
    fraud_warning: bool = False
    """The issuer sends an early fraud warning after the payment."""
    microdeposits: bool = False
    """A bank account that the shopper has to verify before it is debited."""
    funds_available: bool = False
    attaches: bool = True
    """Whether a card that is declined when charged can be attached to a customer all the same."""
    once_set_up: bool = False
    """No more 3-D Secure after being set up for payments without the customer present."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """What the issuer's checks conclude, where it is not ``pass``."""

    @property
    def last4(self) -> str:
        return self.numbers[0][-4:]

    @property
    def instructs(self) -> bool:
        """Whether the shopper is told to do something that takes days."""
        return self.microdeposits or self.type not in (CARD, BANK_DEBIT)

    @property
    def attach_decline(self) -> Decline | None:
        """Why a customer cannot have it, if that is so."""
        return None if self.attaches else self.decline

    def check(self, name: str) -> str:
        return self.checks.get(name, "pass")


def _declining(ids: tuple[str, ...], number: str, decline: Decline) -> Instrument:
    """A card that simulates an issuer's decline: it cannot be attached either."""
    return Instrument(ids=ids, numbers=(number,), decline=decline, attaches=False)


def _both(name: str) -> tuple[str, str]:
    """Both spellings in use: with the brand and without."""
    return (f"pm_card_visa_{name}", f"pm_card_{name}")


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(ids=("pm_card_visa", "pm_card_us"), numbers=("4242424242424242",)),
    Instrument(ids=("pm_card_visa_debit",), numbers=("4000056655665556",), funding="debit"),
    Instrument(
        ids=("pm_card_mastercard",),
        numbers=("5555555555554444", "2223003122003222"),
        brand="mastercard",
    ),
    Instrument(
        ids=("pm_card_mastercard_debit",),
        numbers=("5200828282828210",),
        brand="mastercard",
        funding="debit",
    ),
    Instrument(
        ids=("pm_card_mastercard_prepaid",),
        numbers=("5105105105105100",),
        brand="mastercard",
        funding="prepaid",
    ),
    Instrument(
        ids=("pm_card_amex",), numbers=("378282246310005", "371449635398431"), brand="amex"
    ),
    Instrument(
        ids=("pm_card_discover",),
        numbers=("6011111111111117", "6011000990139424", "6011981111111113"),
        brand="discover",
    ),
    Instrument(
        ids=("pm_card_diners",), numbers=("3056930009020004", "36227206271667"), brand="diners"
    ),
    Instrument(
        ids=("pm_card_jcb",),
        numbers=("3566002020360505", "3530111333300000"),
        brand="jcb",
        country="JP",
    ),
    Instrument(
        ids=("pm_card_unionpay",),
        numbers=("6200000000000005", "6200000000000047", "6205500000000000004"),
        brand="unionpay",
        country="CN",
    ),
    _declining(_both("chargeDeclined"), "4000000000000002", GENERIC),
    _declining(_both("chargeDeclinedInsufficientFunds"), "4000000000009995", INSUFFICIENT_FUNDS),
    _declining(_both("chargeDeclinedLostCard"), "4000000000009987", LOST_CARD),
    _declining(_both("chargeDeclinedStolenCard"), "4000000000009979", STOLEN_CARD),
    _declining(_both("chargeDeclinedExpiredCard"), "4000000000000069", EXPIRED),
    _declining(_both("chargeDeclinedIncorrectCvc"), "4000000000000127", INCORRECT_CVC),
    _declining(_both("chargeDeclinedProcessingError"), "4000000000000119", PROCESSING_ERROR),
    _declining(_both("chargeDeclinedVelocityLimitExceeded"), "4000000000006975", VELOCITY),
    Instrument(ids=("pm_card_chargeCustomerFail",), numbers=("4000000000000341",), decline=GENERIC),
    Instrument(
        ids=("pm_card_radarBlock",),
        numbers=("4100000000000019",),
        decline=RADAR_BLOCK,
        risk_level="highest",
    ),
    Instrument(
        ids=("pm_card_riskLevelHighest",), numbers=("4000000000004954",), risk_level="highest"
    ),
    Instrument(
        ids=("pm_card_riskLevelElevated",), numbers=("4000000000009235",), risk_level="elevated"
    ),
    Instrument(
        ids=("pm_card_authenticationRequiredOnSetup",),
        numbers=("4000002500003155",),
        three_d_secure=True,
        once_set_up=True,
        off_session_decline=AUTHENTICATION_REQUIRED,
    ),
    Instrument(
        ids=("pm_card_authenticationRequired",),
        numbers=("4000002760003184",),
        country="DE",
        three_d_secure=True,
        off_session_decline=AUTHENTICATION_REQUIRED,
    ),
    Instrument(
        ids=("pm_card_authenticationRequiredSetupForOffSession",),
        numbers=("4000003800000446",),
        three_d_secure=True,
    ),
    Instrument(
        ids=("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",),
        numbers=("4000008260003178",),
        country="GB",
        decline=INSUFFICIENT_FUNDS,
        three_d_secure=True,
        off_session_decline=INSUFFICIENT_FUNDS,
    ),
    Instrument(
        ids=("pm_card_threeDSecure2Required",),
        numbers=("4000000000003220", "4000008400000027"),
        three_d_secure=True,
        off_session_decline=AUTHENTICATION_REQUIRED,
    ),
    Instrument(
        ids=("pm_card_threeDSecureRequiredChargeDeclined",),
        numbers=("4000008400001629",),
        decline=GENERIC,
        three_d_secure=True,
        off_session_decline=GENERIC,
    ),
    Instrument(
        ids=("pm_card_threeDSecureRequiredProcessingError",),
        numbers=("4000008400001280",),
        decline=LOOKUP_ERROR,
    ),
    Instrument(ids=("pm_card_threeDSecureOptional",), numbers=("4000000000003055",)),
    Instrument(
        ids=("pm_card_createDispute",), numbers=("4000000000000259",), dispute="fraudulent"
    ),
    Instrument(
        ids=("pm_card_createDisputeProductNotReceived",),
        numbers=("4000000000002685",),
        dispute="product_not_received",
    ),
    Instrument(
        ids=("pm_card_createDisputeInquiry",),
        numbers=("4000000000001976",),
        dispute="fraudulent",
        inquiry=True,
    ),
    Instrument(
        ids=("pm_card_createIssuerFraudRecord",),
        numbers=("4000000000005423",),
        fraud_warning=True,
    ),
    Instrument(
        ids=("pm_card_cvcCheckFail",), numbers=("4000000000000101",), checks={"cvc_check": "fail"}
    ),
    Instrument(
        ids=("pm_card_avsZipFail",),
        numbers=("4000000000000036",),
        checks={"address_postal_code_check": "fail"},
    ),
    Instrument(
        ids=("pm_card_avsLine1Fail",),
        numbers=("4000000000000028",),
        checks={"address_line1_check": "fail"},
    ),
    Instrument(
        ids=("pm_card_avsFail",),
        numbers=("4000000000000010",),
        checks={"address_line1_check": "fail", "address_postal_code_check": "fail"},
    ),
    Instrument(
        ids=("pm_card_avsUnchecked",),
        numbers=("4000000000000044",),
        checks={
            "address_line1_check": "unavailable",
            "address_postal_code_check": "unavailable",
        },
    ),
    Instrument(
        ids=("pm_card_bypassPending",), numbers=("4000000000000077",), funds_available=True
    ),
    Instrument(ids=("pm_card_pendingRefund",), numbers=("4000000000007726",), refund="pends"),
    Instrument(ids=("pm_card_refundFail",), numbers=("4000000000005126",), refund="fails"),
    *(
        Instrument(
            ids=(f"pm_card_{suffix}",),
            numbers=(number,),
            brand="mastercard" if suffix.endswith("mastercard") else "visa",
            country=suffix[:2].upper(),
            funding="debit" if suffix.endswith("debit") else "credit",
        )
        for suffix, number in CARDS_BY_COUNTRY.items()
    ),
    Instrument(ids=("pm_usBankAccount",), numbers=("000123456789",), type=BANK_DEBIT),
    Instrument(
        ids=("pm_usBankAccount_accountClosed",),
        numbers=("000333333335",),
        type=BANK_DEBIT,
        decline=Decline("account_closed", "The customer's bank account has been closed."),
    ),
    Instrument(
        ids=("pm_usBankAccount_noAccount",),
        numbers=("000111111116",),
        type=BANK_DEBIT,
        decline=Decline("no_account", "The customer's bank account could not be located."),
    ),
    Instrument(
        ids=("pm_usBankAccount_insufficientFunds",),
        numbers=("000222222227",),
        type=BANK_DEBIT,
        decline=Decline(
            "insufficient_funds", "The customer's account has insufficient funds to cover this "
            "payment.",
        ),
    ),
    Instrument(
        ids=("pm_usBankAccount_microdeposits",),
        numbers=("000123456789",),
        type=BANK_DEBIT,
        microdeposits=True,
    ),
    Instrument(ids=("pm_boleto",), type="boleto"),
    Instrument(ids=("pm_konbini",), type="konbini"),
    Instrument(ids=("pm_multibanco",), type="multibanco"),
    Instrument(ids=("pm_oxxo",), type="oxxo"),
    Instrument(ids=("pm_customerBalance",), type=BANK_TRANSFER),
)  # fmt: skip

_BY_ID = {id: instrument for instrument in INSTRUMENTS for id in instrument.ids}
_BY_NUMBER = {number: instrument for instrument in INSTRUMENTS for number in instrument.numbers}


def by_id(id: str) -> Instrument | None:
    return _BY_ID.get(id)


def by_number(number: str) -> Instrument | None:
    return _BY_NUMBER.get(number)


def every_id() -> Iterator[str]:
    return iter(_BY_ID)


def types_on_offer(
    currency: str,
    allowed: Sequence[str] | None,
    excluded: Sequence[str] | None,
    *,
    has_customer: bool,
) -> list[str]:
    """The ``payment_method_types`` of a payment, after its filters (none: nothing is filtered).

    A bank transfer goes to the balance of a customer, so there has to be one.
    """
    types: list[str] = [CARD, BANK_DEBIT] if currency == "usd" else [CARD]
    types += [voucher for voucher, own in _VOUCHERS.items() if own == currency]
    if has_customer and currency in _TRANSFER_CURRENCIES:
        types.append(BANK_TRANSFER)
    return [
        type for type in types if (not allowed or type in allowed) and type not in (excluded or ())
    ]


def passes_luhn(number: str) -> bool:
    """The check digit that catches a mistyped card number."""
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return bool(number) and total % 10 == 0
