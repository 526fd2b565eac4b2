"""Amounts in the currency's smallest unit, and Stripe's limits on them.

https://docs.stripe.com/currencies: which currencies there are, which have no minor unit, and the
minimum charge of each.
"""

from typing import Final

from app.errors import AmountTooLarge, AmountTooSmall, UnsupportedCurrency, ValidationFailed

ZERO_DECIMAL_CURRENCIES: Final = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()
)
THREE_DECIMAL_CURRENCIES: Final = frozenset("bhd jod kwd omr tnd".split())

WHOLE_UNITS_ONLY: Final = frozenset({"isk", "ugx"})
"""Written with two decimals that must be 00."""

CURRENCIES: Final = ZERO_DECIMAL_CURRENCIES | frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bmd bnd bob brl bsd bwp byn bzd cad
    cdf chf cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg
    huf idr ils inr isk jmd jod kes kgs khr kwd kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop
    mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln qar ron rsd rub sar
    sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs wst
    xcd yer zar zmw
    """.split()
)

MINIMUM_CHARGE: Final = {
    "aed": 200, "ars": 50, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "cop": 50, "czk": 1500,
    "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "idr": 50, "ils": 50, "inr": 50,
    "jpy": 50, "krw": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "php": 50, "pln": 200,
    "ron": 200, "rub": 50, "sek": 300, "sgd": 50, "thb": 1000, "usd": 50, "zar": 50,
    "isk": 100, "ugx": 100,
}  # fmt: skip
"""In minor units. Stripe checks in the settlement currency; where it names no minimum, one unit."""


def require_supported_currency(currency: str) -> None:
    """Raises UnsupportedCurrency unless Stripe can charge in ``currency`` (lower case)."""
    if currency not in CURRENCIES:
        raise UnsupportedCurrency(f"Stripe cannot charge in {currency!r}.")


def require_chargeable(amount: int, currency: str, *, maximum: int) -> None:
    """Raises AmountTooSmall, AmountTooLarge or UnsupportedCurrency as Stripe would, before it is
    called.
    """
    require_supported_currency(currency)
    minimum = MINIMUM_CHARGE.get(currency, 1)
    if amount < minimum:
        raise AmountTooSmall(
            f"The amount is {display(amount, currency)}; the smallest charge is "
            f"{display(minimum, currency)}.",
            minimum=minimum,
        )
    if amount > maximum:
        raise AmountTooLarge(
            f"The amount is {display(amount, currency)}; the largest charge is "
            f"{display(maximum, currency)}.",
            maximum=maximum,
        )
    if currency in WHOLE_UNITS_ONLY and amount % 100:
        raise ValidationFailed.of_field(
            "amount", f"an amount in {currency.upper()} ends in 00: it has no decimals in practice"
        )


def display(amount: int, currency: str) -> str:
    """For sentences: ``12.99 USD``, ``500 JPY``."""
    if currency in ZERO_DECIMAL_CURRENCIES:
        return f"{amount} {currency.upper()}"
    if currency in THREE_DECIMAL_CURRENCIES:
        return f"{amount // 1000}.{amount % 1000:03d} {currency.upper()}"
    return f"{amount // 100}.{amount % 100:02d} {currency.upper()}"
