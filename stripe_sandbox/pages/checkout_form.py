"""Reading the hosted page's form: what a person typed, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stripe_sandbox.objects import instruments
from stripe_sandbox.objects.instruments import BANK_DEBIT, CARD, Instrument
from stripe_sandbox.objects.payment_methods import PaymentMethodRecord, PaymentMethods, cvc_length
from stripe_sandbox.protocol.params import is_email

_BANK_OUTCOMES = {
    "succeeds": "pm_usBankAccount",
    "fails": "pm_usBankAccount_insufficientFunds",
    "verifies": "pm_usBankAccount_microdeposits",
}
DELAYED = {
    "boleto": ("pm_boleto", "Boleto"),
    "konbini": ("pm_konbini", "Konbini"),
    "multibanco": ("pm_multibanco", "Multibanco"),
    "oxxo": ("pm_oxxo", "OXXO"),
    "customer_balance": ("pm_customerBalance", "Bank transfer"),
}
"""What is paid elsewhere: the test PaymentMethod, and what the page calls it."""


@dataclass(slots=True)
class Submission:
    """Values are kept for showing the form again, except the security code."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    instrument: Instrument | None = None
    number: str | None = None
    month: int = 12
    year: int | None = None

    def mint(self, methods: PaymentMethods) -> PaymentMethodRecord | None:
        if self.instrument is None:
            return None
        billing = {
            "email": self.values["email"],
            "name": self.values["name"] or None,
            "address": {
                "country": "US",
                "postal_code": self.values["postal_code"] or None,
            },
        }
        return methods.mint(
            self.instrument,
            number=self.number,
            billing=billing,
            exp_month=self.month,
            exp_year=self.year,
        )


FIELDS = ("method", "email", "number", "expiry", "name", "postal_code", "bank_outcome")


def read_form(
    form: Mapping[str, str],
    *,
    types: list[str],
    free: bool,
    methods: PaymentMethods,
) -> Submission:
    """``types`` are the kinds of payment on offer; a ``free`` page asks for the e-mail only."""
    values = {name: form.get(name, "").strip()[:200] for name in FIELDS}
    submission = Submission(values)
    if not values["email"]:
        submission.errors["email"] = "Enter your email."
    elif not is_email(values["email"]):
        submission.errors["email"] = (
            "Your email is not complete. It should look like you@example.com."
        )
    if free:
        return submission
    if values["method"] == "bank" and BANK_DEBIT in types:
        chosen = _BANK_OUTCOMES.get(values["bank_outcome"], _BANK_OUTCOMES["succeeds"])
        submission.instrument = instruments.by_id(chosen)
        if not values["name"]:
            submission.errors["name"] = "Enter the name of the account's holder."
    elif values["method"] in DELAYED and values["method"] in types:
        submission.instrument = instruments.by_id(DELAYED[values["method"]][0])
    elif CARD in types:
        _read_card(submission, form.get("cvc", "").strip(), methods)
    else:
        submission.errors["method"] = "Choose how to pay."
    return submission


def _read_card(submission: Submission, cvc: str, methods: PaymentMethods) -> None:
    values, errors = submission.values, submission.errors
    number = values["number"].replace(" ", "").replace("-", "")
    instrument = None
    if not number:
        errors["number"] = "Enter your card number."
    elif not number.isascii() or not number.isdigit() or not 12 <= len(number) <= 19:
        errors["number"] = "Your card number is incomplete."
    elif not instruments.passes_luhn(number):
        errors["number"] = "Your card number is invalid."
    else:
        instrument = instruments.by_number(number)
        if instrument is None or instrument.type != CARD:
            instrument = None
            errors["number"] = "This is not one of the test cards, and the sandbox takes no others."
    _read_expiry(submission, methods)
    expected = 3 if instrument is None else cvc_length(instrument)
    if not cvc:
        errors["cvc"] = "Enter the security code."
    elif not cvc.isascii() or not cvc.isdigit() or len(cvc) != expected:
        errors["cvc"] = f"Your card's security code has {expected} digits."
    submission.instrument = instrument
    submission.number = number


def _read_expiry(submission: Submission, methods: PaymentMethods) -> None:
    errors = submission.errors
    digits = "".join(c for c in submission.values["expiry"] if c.isascii() and c.isdigit())
    month_text, separator, year_text = submission.values["expiry"].partition("/")
    if not digits:
        errors["expiry"] = "Enter your card's expiration date."
        return
    if separator:
        month_text, year_text = month_text.strip(), year_text.strip()
    else:
        month_text, year_text = digits[:2], digits[2:]
    if not (month_text.isdigit() and year_text.isdigit() and len(year_text) in (2, 4)):
        errors["expiry"] = "Your card's expiration date is incomplete. Write it as MM / YY."
        return
    month, year = int(month_text), int(year_text)
    year += 2000 if year < 100 else 0
    if not 1 <= month <= 12:
        errors["expiry"] = "Your card's expiration month is invalid."
    elif methods.is_past(month, year):
        errors["expiry"] = "Your card's expiration date is in the past."
    else:
        submission.month, submission.year = month, year
