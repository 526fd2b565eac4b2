"""Amounts: what may be charged in which currency, and how it is written in a sentence."""

import pytest

from app.domain.money import (
    CURRENCIES,
    display,
    maximum_charges,
    require_chargeable,
    require_valid_amount,
)
from app.errors import InvalidAmountForCurrency

STEPS = {"isk": 100, "ugx": 100, "bhd": 10, "jod": 10, "kwd": 10, "omr": 10, "tnd": 10}


def test_every_currency_but_seven_takes_any_amount() -> None:
    assert {code for code, rule in CURRENCIES.items() if rule.multiple_of > 1} == set(STEPS)
    for currency in set(CURRENCIES) - set(STEPS):
        require_valid_amount(20_001, currency)


@pytest.mark.parametrize(("currency", "step"), STEPS.items())
def test_amount_between_two_steps_of_its_currency_is_refused_with_the_rule(
    currency: str, step: int
) -> None:
    require_valid_amount(12_300, currency)
    for amount in (12_301, 12_300 + step - 1, 12_300 + step // 2):
        with pytest.raises(InvalidAmountForCurrency) as refusal:
            require_valid_amount(amount, currency)
        zeros = str(step)[1:]
        assert refusal.value.detail.startswith(f"An amount in {currency.upper()} ends in {zeros}: ")
        assert refusal.value.facts == {"currency": currency, "multiple_of": step}


def test_smallest_and_largest_charge_of_every_currency_can_be_written_and_charged() -> None:
    for currency, rule in CURRENCIES.items():
        require_chargeable(rule.minimum, currency, maximum=rule.maximum)
        largest = rule.maximum // rule.multiple_of * rule.multiple_of
        require_chargeable(largest, currency, maximum=rule.maximum)
        assert rule.decimals in (0, 2, 3)


def test_stripes_longer_maximums_are_these() -> None:
    longer = {code: rule.maximum for code, rule in CURRENCIES.items() if rule.maximum > 99_999_999}
    assert longer == {"idr": 999_999_999_999, "cop": 9_999_999_999, "inr": 999_999_999}


@pytest.mark.parametrize(
    ("text", "usd", "idr"),
    [
        ("", 99_999_999, 999_999_999_999),
        ("5000", 5000, 5000),
        ("99999999,idr:9000000000", 99_999_999, 9_000_000_000),
        (" 5000 , IDR : 7, usd:6000 ", 6000, 7),
        ("idr:7", 99_999_999, 7),
    ],
)
def test_shop_may_cap_charges_below_stripes_maximum(text: str, usd: int, idr: int) -> None:
    maximums = maximum_charges(text)
    assert maximums.keys() == CURRENCIES.keys()
    assert (maximums["usd"], maximums["eur"] <= usd, maximums["idr"]) == (usd, True, idr)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1299, "usd", "12.99 USD"),
        (5, "usd", "0.05 USD"),
        (500, "jpy", "500 JPY"),
        (1299, "kwd", "1.299 KWD"),
        (50, "bhd", "0.050 BHD"),
        (100, "ugx", "1.00 UGX"),
        (1, "xxx", "0.01 XXX"),
    ],
)
def test_an_amount_is_shown_with_as_many_decimals_as_its_currency_has(
    amount: int, currency: str, shown: str
) -> None:
    assert display(amount, currency) == shown
