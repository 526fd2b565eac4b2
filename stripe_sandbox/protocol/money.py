"""Currencies, their smallest units, and the smallest and largest charge in each.

https://docs.stripe.com/currencies
"""

from stripe_sandbox.protocol.errors import ApiError, invalid_param

ZERO_DECIMAL = frozenset(
    {
        "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
        "xof", "xpf",
    }
)  # fmt: skip
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
WHOLE_UNITS = frozenset({"isk", "ugx"})
"""Written with two decimals, which are always 00."""

CURRENCIES = frozenset(
    {
        "usd", "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn",
        "bam", "bbd", "bdt", "bgn", "bhd", "bif", "bmd", "bnd", "bob", "brl", "bsd",
        "bwp", "byn", "bzd", "cad", "cdf", "chf", "clp", "cny", "cop", "crc", "cve",
        "czk", "djf", "dkk", "dop", "dzd", "egp", "etb", "eur", "fjd", "fkp", "gbp",
        "gel", "gip", "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "hrk", "htg", "huf",
        "idr", "ils", "inr", "isk", "jmd", "jod", "jpy", "kes", "kgs", "khr", "kmf",
        "krw", "kwd", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad", "mdl",
        "mga", "mkd", "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn",
        "nad", "ngn", "nio", "nok", "npr", "nzd", "omr", "pab", "pen", "pgk", "php",
        "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub", "rwf", "sar", "sbd", "scr",
        "sek", "sgd", "shp", "sle", "sos", "srd", "std", "szl", "thb", "tjs", "tnd",
        "top", "try", "ttd", "twd", "tzs", "uah", "ugx", "uyu", "uzs", "vnd", "vuv",
        "wst", "xaf", "xcd", "xof", "xpf", "yer", "zar", "zmw",
    }
)  # fmt: skip

MINIMUM_CHARGE = {
    "usd": 50, "aed": 200, "ars": 50, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "cop": 50,
    "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "idr": 50, "ils": 50,
    "inr": 50, "jpy": 50, "krw": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "php": 50,
    "pln": 200, "ron": 200, "rub": 50, "sek": 300, "sgd": 50, "thb": 1000, "zar": 50,
}  # fmt: skip

_MAXIMUM_DIGITS = {"idr": 12, "cop": 10, "inr": 9}
"""Of others 8."""

_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "krw": "₩", "brl": "R$"}
_DOLLARS = {"aud": "A$", "cad": "CA$", "nzd": "NZ$", "hkd": "HK$", "mxn": "MX$", "sgd": "S$"}


def decimals(currency: str) -> int:
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def display(amount: int, currency: str) -> str:
    """``$1,234.50``; a currency without a familiar sign is written out: ``CZK 15.00``."""
    places = decimals(currency)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**places)
    figure = f"{whole:,}" + (f".{rest:0{places}d}" if places else "")
    prefix = _SYMBOLS.get(currency) or _DOLLARS.get(currency) or f"{currency.upper()} "
    return f"{sign}{prefix}{figure}"


def check_currency(currency: str, param: str = "currency") -> str:
    lowered = currency.lower()
    if lowered not in CURRENCIES:
        supported = ", ".join(["usd", *sorted(CURRENCIES - {"usd"})])
        raise invalid_param(
            f"Invalid currency: {lowered}. Stripe currently supports these currencies: {supported}",
            param,
        )
    return lowered


def check_decimals(amount: int, currency: str, param: str) -> None:
    """Refuse digits that the currency has no use for, in charges and refunds.

    https://docs.stripe.com/currencies#special-cases, and for the answer
    https://support.stripe.com/questions/deprecation-of-fractional-isk-charges-and-refunds. Those of
    three decimals end in 0; how Stripe words that refusal is not published.
    """
    if currency in WHOLE_UNITS and amount % 100:
        code = "invalid_charge_amount_no_decimal_compatible"
        message = (
            f"Invalid amount. Currency {currency.upper()} has become effectively zero-decimal and "
            "charged amounts must be evenly divisible by 100. See "
            "https://stripe.com/docs/currencies#special-cases for more information."
        )
    elif currency in THREE_DECIMAL and amount % 10:
        code = "invalid_charge_amount"
        message = (
            f"Invalid amount. Amounts in {currency.upper()} must be evenly divisible by 10. See "
            "https://stripe.com/docs/currencies#three-decimal for more information."
        )
    else:
        return
    raise invalid_param(message, param, code)


def check_charge(
    amount: int, currency: str, maximum: int | None, param: str | None = "amount"
) -> None:
    """Refuse what is too little, or more than ``maximum`` (by default Stripe's)."""
    if maximum is None:
        maximum = 10 ** _MAXIMUM_DIGITS.get(currency, 8) - 1
    minimum = MINIMUM_CHARGE.get(currency, 1)
    if amount < minimum:
        raise ApiError(
            400,
            f"Amount must be at least {display(minimum, currency)} {currency}",
            code="amount_too_small",
            param=param,
            executed=False,
        )
    if amount > maximum:
        raise ApiError(
            400,
            f"Amount must be no more than {display(maximum, currency)}",
            code="amount_too_large",
            param=param,
            executed=False,
        )
