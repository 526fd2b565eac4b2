"""Amounts: what may be charged in which currency, and how it is written in a sentence."""

import pytest

from app.domain.money import display, require_chargeable
from app.errors import ValidationFailed


@pytest.mark.parametrize("currency", ["isk", "ugx"])
def test_a_currency_that_has_no_decimals_in_practice_ends_in_00(currency: str) -> None:
    require_chargeable(1100, currency, maximum=99_999_999)

    for amount in (1101, 1110, 1199):
        with pytest.raises(ValidationFailed) as refusal:
            require_chargeable(amount, currency, maximum=99_999_999)
        assert refusal.value.facts["errors"] == [
            {
                "field": "amount",
                "message": f"an amount in {currency.upper()} ends in 00: "
                "it has no decimals in practice",
            }
        ]


@pytest.mark.parametrize("currency", ["usd", "jpy", "huf"])
def test_any_other_currency_takes_any_amount(currency: str) -> None:
    require_chargeable(20_001, currency, maximum=99_999_999)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1299, "usd", "12.99 USD"),
        (5, "usd", "0.05 USD"),
        (500, "jpy", "500 JPY"),
        (1299, "kwd", "1.299 KWD"),
        (50, "bhd", "0.050 BHD"),
        (100, "ugx", "1.00 UGX"),
    ],
)
def test_an_amount_is_shown_with_as_many_decimals_as_its_currency_has(
    amount: int, currency: str, shown: str
) -> None:
    assert display(amount, currency) == shown
