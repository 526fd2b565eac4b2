"""The test cards and bank accounts, one table: number, PaymentMethod ids, behaviour.

https://docs.stripe.com/testing
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

CARD: Final = "card"
BANK_DEBIT: Final = "us_bank_account"


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
    type: Literal["card", "us_bank_account"] = "card"
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
    funds_available: bool = False

    @property
    def last4(self) -> str:
        return self.numbers[0][-4:]


def _both(name: str) -> tuple[str, str]:
    """Both spellings in use: with the brand and without."""
    return (f"pm_card_visa_{name}", f"pm_card_{name}")


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(ids=("pm_card_visa",), numbers=("4242424242424242",)),
    Instrument(ids=("pm_card_visa_debit",), numbers=("4000056655665556",), funding="debit"),
    Instrument(ids=("pm_card_mastercard",), numbers=("5555555555554444",), brand="mastercard"),
    Instrument(ids=("pm_card_amex",), numbers=("378282246310005",), brand="amex"),
    Instrument(ids=("pm_card_discover",), numbers=("6011111111111117",), brand="discover"),
    Instrument(ids=_both("chargeDeclined"), numbers=("4000000000000002",), decline=GENERIC),
    Instrument(
        ids=_both("chargeDeclinedInsufficientFunds"),
        numbers=("4000000000009995",),
        decline=INSUFFICIENT_FUNDS,
    ),
    Instrument(
        ids=_both("chargeDeclinedLostCard"), numbers=("4000000000009987",), decline=LOST_CARD
    ),
    Instrument(
        ids=_both("chargeDeclinedStolenCard"), numbers=("4000000000009979",), decline=STOLEN_CARD
    ),
    Instrument(
        ids=_both("chargeDeclinedExpiredCard"), numbers=("4000000000000069",), decline=EXPIRED
    ),
    Instrument(
        ids=_both("chargeDeclinedIncorrectCvc"),
        numbers=("4000000000000127",),
        decline=INCORRECT_CVC,
    ),
    Instrument(
        ids=_both("chargeDeclinedProcessingError"),
        numbers=("4000000000000119",),
        decline=PROCESSING_ERROR,
    ),
    Instrument(
        ids=_both("chargeDeclinedVelocityLimitExceeded"),
        numbers=("4000000000006975",),
        decline=VELOCITY,
    ),
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
        ids=("pm_card_bypassPending",), numbers=("4000000000000077",), funds_available=True
    ),
    Instrument(ids=("pm_card_pendingRefund",), numbers=("4000000000007726",), refund="pends"),
    Instrument(ids=("pm_card_refundFail",), numbers=("4000000000005126",), refund="fails"),
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
)  # fmt: skip

_BY_ID = {id: instrument for instrument in INSTRUMENTS for id in instrument.ids}
_BY_NUMBER = {number: instrument for instrument in INSTRUMENTS for number in instrument.numbers}


def by_id(id: str) -> Instrument | None:
    return _BY_ID.get(id)


def by_number(number: str) -> Instrument | None:
    return _BY_NUMBER.get(number)


def every_id() -> Iterator[str]:
    return iter(_BY_ID)


def passes_luhn(number: str) -> bool:
    """The check digit that catches a mistyped card number."""
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return bool(number) and total % 10 == 0
