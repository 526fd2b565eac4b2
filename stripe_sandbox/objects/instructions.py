"""What a shopper has to do away from the page: pay a voucher, transfer, verify an account.

The PaymentIntent stays ``requires_action`` meanwhile, for days.
https://docs.stripe.com/payments/vouchers, /payments/bank-transfers, /payments/ach-direct-debit
"""

from stripe_sandbox.core.api_objects import StripeObject, copy_json
from stripe_sandbox.core.ids import IdFactory
from stripe_sandbox.objects.instruments import BANK_DEBIT, BANK_TRANSFER

_DAY = 24 * 3600
_LIFETIME = {
    "boleto": 3 * _DAY,
    "konbini": 3 * _DAY,
    "multibanco": 7 * _DAY,
    "oxxo": 3 * _DAY,
    BANK_DEBIT: 10 * _DAY,
}
"""Seconds after which Stripe ends the wait; a bank transfer is awaited without a limit."""
_ON_THE_PAGE = ("redirect_to_url", "use_stripe_sdk")
"""The actions of 3-D Secure, which take minutes."""

_ACCOUNT: StripeObject = {
    "account_holder_address": {
        "city": None, "country": "US", "line1": None, "line2": None, "postal_code": None,
        "state": None,
    },
    "account_holder_name": "Sandbox",
    "bank_address": {
        "city": None, "country": "US", "line1": None, "line2": None, "postal_code": None,
        "state": None,
    },
}  # fmt: skip
_TRANSFERS: dict[str, tuple[str, str, list[str], StripeObject]] = {
    "eur": (
        "eu_bank_transfer", "iban", ["sepa"],
        {"bic": "SANDIE2D", "country": "IE", "iban": "IE29AIBK93115212345678"},
    ),
    "gbp": (
        "gb_bank_transfer", "sort_code", ["bacs", "fps"],
        {"account_number": "00012345", "sort_code": "108800"},
    ),
    "jpy": (
        "jp_bank_transfer", "zengin", ["zengin"],
        {
            "account_number": "0001234", "account_type": "futsu", "bank_code": "9999",
            "bank_name": "STRIPE TEST BANK", "branch_code": "999", "branch_name": "TEST",
        },
    ),
    "mxn": (
        "mx_bank_transfer", "spei", ["spei"],
        {"bank_code": "999", "bank_name": "STRIPE TEST BANK", "clabe": "999180000000012345"},
    ),
    "usd": (
        "us_bank_transfer", "aba", ["ach", "domestic_wire_us"],
        {
            "account_number": "000123456789", "account_type": "checking",
            "bank_name": "STRIPE TEST BANK", "routing_number": "110000000",
        },
    ),
}  # fmt: skip
"""By currency: the kind of transfer, of account, the networks, and the account."""


def acts_elsewhere(intent: StripeObject) -> bool:
    """Whether the PaymentIntent waits for something else than 3-D Secure."""
    action = intent["next_action"]
    return action is not None and action["type"] not in _ON_THE_PAGE


def instructions(
    type: str, intent: StripeObject, now: int, ids: IdFactory, page: str
) -> tuple[StripeObject, int | None]:
    """The ``next_action`` for a type of PaymentMethod, and when the wait ends.

    ``page`` is where the shopper can read it again.
    """
    lifetime = _LIFETIME.get(type)
    expires_at = None if lifetime is None else now + lifetime
    if type == BANK_TRANSFER:
        return _transfer(intent, ids, page), expires_at
    if type == BANK_DEBIT:
        name = "verify_with_microdeposits"
        details: StripeObject = {
            "arrival_date": now + 2 * _DAY,
            "hosted_verification_url": page,
            "microdeposit_type": "descriptor_code",
        }
    else:
        name = f"{type}_display_details"
        expiry = "expires_after" if type == "oxxo" else "expires_at"
        details = {expiry: expires_at, "hosted_voucher_url": page, **_voucher(type, ids, page)}
    return {name: details, "type": name}, expires_at


def _voucher(type: str, ids: IdFactory, page: str) -> StripeObject:
    if type == "boleto":
        return {"number": ids.digits(47), "pdf": page}
    if type == "oxxo":
        return {"number": ids.digits(34)}
    if type == "multibanco":
        return {"entity": ids.digits(5), "reference": ids.digits(9)}
    chains = ("familymart", "lawson", "ministop", "seicomart")
    return {
        "stores": {
            chain: {"confirmation_number": ids.digits(11), "payment_code": ids.digits(6)}
            for chain in chains
        }
    }


def _transfer(intent: StripeObject, ids: IdFactory, page: str) -> StripeObject:
    kind, account_type, networks, account = _TRANSFERS[intent["currency"]]
    name = "display_bank_transfer_instructions"
    return {
        name: {
            "amount_remaining": intent["amount"],
            "currency": intent["currency"],
            "financial_addresses": [
                {
                    account_type: {**copy_json(_ACCOUNT), **account},
                    "supported_networks": list(networks),
                    "type": account_type,
                }
            ],
            "hosted_instructions_url": page,
            "reference": ids.digits(12),
            "type": kind,
        },
        "type": name,
    }
