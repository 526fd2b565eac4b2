"""Amounts in the currency's smallest unit, and Stripe's limits on them.

https://docs.stripe.com/currencies: which currencies there are, how each is written, and what may be
charged in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    InvalidAmountForCurrency,
    UnsupportedCurrency,
)

EIGHT_DIGITS: Final = 99_999_999
"""What Stripe charges at most, in all currencies but those with a longer ``maximum`` below."""


@dataclass(frozen=True, slots=True)
class CurrencyRule:
    """How an amount is written, for a charge as for a refund: with ``decimals``, and as a multiple
    of ``multiple_of``. ``minimum`` and ``maximum`` bound a charge. All in minor units.
    """

    decimals: int = 2
    multiple_of: int = 1
    minimum: int = 1
    maximum: int = EIGHT_DIGITS


def _all_of(codes: str, rule: CurrencyRule) -> dict[str, CurrencyRule]:
    return dict.fromkeys(codes.split(), rule)


CURRENCIES: Final[Mapping[str, CurrencyRule]] = {
    **_all_of(
        """
        afn all amd ang aoa awg azn bam bbd bdt bgn bmd bnd bob bsd bwp byn bzd cdf cny crc cve dop
        dzd egp etb fjd fkp gel gip gmd gtq gyd hnl htg jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl
        mad mdl mkd mmk mnt mop mur mvr mwk mzn nad ngn nio npr pab pen pgk pkr qar rsd sar sbd scr
        shp sle sos srd std szl tjs top try ttd twd tzs uah uyu uzs wst xcd yer zmw
        """,
        CurrencyRule(),
    ),
    **_all_of(
        "ars aud brl cad chf eur nzd php rub sgd usd zar",
        CurrencyRule(minimum=50),
    ),
    **_all_of("aed myr pln ron", CurrencyRule(minimum=200)),
    **_all_of("nok sek", CurrencyRule(minimum=300)),
    **_all_of("mxn thb", CurrencyRule(minimum=1000)),
    "czk": CurrencyRule(minimum=1500),
    "dkk": CurrencyRule(minimum=250),
    "gbp": CurrencyRule(minimum=30),
    "hkd": CurrencyRule(minimum=400),
    "huf": CurrencyRule(minimum=17500),
    "ils": CurrencyRule(minimum=50),
    "inr": CurrencyRule(minimum=50, maximum=999_999_999),
    "cop": CurrencyRule(minimum=50, maximum=9_999_999_999),
    "idr": CurrencyRule(minimum=50, maximum=999_999_999_999),
    # Without a minor unit.
    **_all_of(
        "bif clp djf gnf kmf mga pyg rwf vnd vuv xaf xof xpf",
        CurrencyRule(decimals=0),
    ),
    **_all_of("jpy krw", CurrencyRule(decimals=0, minimum=50)),
    # Without a minor unit too, but the API keeps writing them with two decimals that must be 00.
    **_all_of("isk ugx", CurrencyRule(multiple_of=100, minimum=100)),
    # With three decimals, of which card networks carry two: the last one must be 0.
    **_all_of("bhd jod kwd omr tnd", CurrencyRule(decimals=3, multiple_of=10, minimum=10)),
}
"""The sections of https://docs.stripe.com/currencies: #presentment-currencies, #zero-decimal,
#special-cases (of which HUF and TWD concern payouts only), three-decimal currencies, and
#minimum-and-maximum-charge-amounts. Stripe checks the minimum in the settlement currency; where it
names none, it is the smallest amount that can be written.
"""

LARGEST_AMOUNT: Final = max(rule.maximum for rule in CURRENCIES.values())


def require_supported_currency(currency: str) -> None:
    """Raises UnsupportedCurrency unless Stripe can charge in ``currency`` (lower case)."""
    if currency not in CURRENCIES:
        raise UnsupportedCurrency(
            "Stripe cannot charge in this currency; send another three-letter code, such as eur."
        )


def require_valid_amount(amount: int, currency: str, *, field: str | None = None) -> None:
    """Raises InvalidAmountForCurrency for an amount that cannot be written in the currency, for a
    charge or a refund. ``field`` is where the caller wrote it, when it is not the amount
    itself.
    """
    multiple_of = _rule_of(currency).multiple_of
    if amount % multiple_of:
        zeros = str(multiple_of).removeprefix("1")
        detail = (
            f"An amount in {currency.upper()} ends in {zeros}: the smallest step is "
            f"{display(multiple_of, currency)}, so {display(amount, currency)} is not possible."
        )
        raise InvalidAmountForCurrency(
            detail, currency=currency, multiple_of=multiple_of, errors=_at(field, detail)
        )


def require_at_most(maximum: int, amount: int, currency: str, *, field: str | None = None) -> None:
    """Raises AmountTooLarge; ``field`` as above."""
    if amount > maximum:
        detail = (
            f"The amount is {display(amount, currency)}; the largest charge is "
            f"{display(maximum, currency)}."
        )
        raise AmountTooLarge(detail, maximum=maximum, errors=_at(field, detail))


def require_chargeable(
    amount: int, currency: str, *, maximum: int, prices: Mapping[str, int] | None = None
) -> None:
    """Raises AmountTooSmall, AmountTooLarge, InvalidAmountForCurrency or UnsupportedCurrency as
    Stripe would, before it is called. ``prices`` are what ``amount`` is made of, by field.
    """
    require_supported_currency(currency)
    minimum = CURRENCIES[currency].minimum
    if amount < minimum:
        raise AmountTooSmall(
            f"The amount is {display(amount, currency)}; the smallest charge is "
            f"{display(minimum, currency)}.",
            minimum=minimum,
        )
    for field, each in (*(prices or {}).items(), (None, amount)):
        require_at_most(maximum, each, currency, field=field)
        require_valid_amount(each, currency, field=field)


def maximum_charges(text: str) -> Mapping[str, int]:
    """The largest charge of every currency, from ``99999999,idr:9000000000``: a number for all of
    them, then others by name. Nothing at all keeps Stripe's own maximum of each.

    Raises ValueError with a sentence for the operator.
    """
    chosen: dict[str, int] = {}
    for place, part in enumerate(text.split(",") if text.strip() else ()):
        code, colon, number = (each.strip().lower() for each in part.rpartition(":"))
        if not (number.isascii() and number.isdecimal() and 0 < len(number) <= 15 and int(number)):
            raise ValueError(_UNREADABLE_CAPS)
        if not colon and place > 0:
            raise ValueError(_UNREADABLE_CAPS)
        if colon and code not in CURRENCIES:
            raise ValueError(f"names {code!r}, in which Stripe cannot charge")
        largest = CURRENCIES[code].maximum if colon else EIGHT_DIGITS
        if int(number) > largest:
            where = f"in {code}" if colon else "in most currencies (name the others, as idr:...)"
            raise ValueError(f"is above {largest}, the most that Stripe charges {where}")
        chosen |= dict.fromkeys([code] if colon else CURRENCIES, int(number))
    return {code: chosen.get(code, rule.maximum) for code, rule in CURRENCIES.items()}


_UNREADABLE_CAPS: Final = (
    "must be a number, then any currencies by name, as in 99999999,idr:9000000000; or empty for "
    "Stripe's own maximums"
)


def display(amount: int, currency: str) -> str:
    """For sentences: ``12.99 USD``, ``500 JPY``."""
    decimals = _rule_of(currency).decimals
    whole, rest = divmod(amount, 10**decimals)
    return f"{whole}{f'.{rest:0{decimals}d}' if decimals else ''} {currency.upper()}"


def _rule_of(currency: str) -> CurrencyRule:
    """Money that was paid in a currency can be shown and refunded when it can no longer be charged
    in.
    """
    return CURRENCIES.get(currency, CurrencyRule())


def _at(field: str | None, message: str) -> list[dict[str, str]] | None:
    return None if field is None else [{"field": field, "message": message.rstrip(".")}]
