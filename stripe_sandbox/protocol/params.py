"""What a parameter may be, declared once per endpoint and checked before anything is done."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from stripe_sandbox.protocol.errors import (
    invalid_param,
    missing_param,
    not_simulated,
    unknown_params,
)

Params = dict[str, Any]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_SAFE_DESCRIPTOR = re.compile(r"[^<>\\'\"*]*")


class Kind(Protocol):
    """Turns the wire's strings into a value, or refuses."""

    @property
    def required(self) -> bool: ...

    def read(self, raw: Any, param: str) -> Any: ...


def _text_of(raw: Any, param: str) -> str:
    if not isinstance(raw, str):
        raise invalid_param("Invalid string: {}", param)
    return raw


def _cannot_be_unset(param: str) -> Exception:
    return invalid_param(
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset "
        f"a parameter; however '{param}' cannot be unset. You should remove '{param}' from your "
        "request or supply a non-empty value.",
        param,
        "parameter_invalid_empty",
    )


@dataclass(frozen=True, slots=True)
class Text:
    """``unsettable`` texts read an empty string as None."""

    required: bool = False
    max_length: int = 5_000
    unsettable: bool = False

    def read(self, raw: Any, param: str) -> str | None:
        text = _text_of(raw, param)
        if text == "":
            if self.unsettable:
                return None
            raise _cannot_be_unset(param)
        if len(text) > self.max_length:
            shown = text if len(text) <= 100 else f"{text[:100]}..."
            raise invalid_param(
                f"Invalid string: {shown}; must be at most {self.max_length} characters", param
            )
        return text


@dataclass(frozen=True, slots=True)
class Integer:
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None

    def read(self, raw: Any, param: str) -> int:
        text = _text_of(raw, param)
        if text == "":
            raise _cannot_be_unset(param)
        if not _INTEGER.fullmatch(text):
            raise invalid_param(f"Invalid integer: {text}", param, "parameter_invalid_integer")
        number = int(text)
        if self.minimum is not None and number < self.minimum:
            message = (
                "Invalid positive integer"
                if self.minimum == 1
                else f"This value must be greater than or equal to {self.minimum}."
            )
            raise invalid_param(message, param, "parameter_invalid_integer")
        if self.maximum is not None and number > self.maximum:
            raise invalid_param(
                f"This value must be less than or equal to {self.maximum} (it currently is "
                f"'{number}').",
                param,
                "parameter_invalid_integer",
            )
        return number


@dataclass(frozen=True, slots=True)
class Boolean:
    required: bool = False

    def read(self, raw: Any, param: str) -> bool:
        text = _text_of(raw, param)
        if text not in ("true", "false"):
            raise invalid_param(f"Invalid boolean: {text}", param)
        return text == "true"


@dataclass(frozen=True, slots=True)
class OneOf:
    values: Sequence[str]
    required: bool = False
    unsettable: bool = False

    def read(self, raw: Any, param: str) -> str | None:
        text = _text_of(raw, param)
        if text == "" and self.unsettable:
            return None
        if text not in self.values:
            *others, last = self.values
            listed = (
                f"{', '.join(others)}, or {last}"
                if len(others) > 1
                else " or ".join([*others, last])
            )
            raise invalid_param(f"Invalid {param}: must be one of {listed}", param)
        return text


@dataclass(frozen=True, slots=True)
class Url:
    required: bool = False

    def read(self, raw: Any, param: str) -> str:
        text = _text_of(raw, param)
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid or any(c.isspace() for c in text):
            raise invalid_param("Not a valid URL", param, "url_invalid")
        if len(text) > 5_000:
            raise invalid_param("Invalid URL: must be at most 5000 characters", param)
        return text


@dataclass(frozen=True, slots=True)
class Email:
    required: bool = False
    unsettable: bool = False

    def read(self, raw: Any, param: str) -> str | None:
        text = _text_of(raw, param)
        if text == "" and self.unsettable:
            return None
        if not is_email(text):
            raise invalid_param(f"Invalid email address: {text}", param, "email_invalid")
        return text


def is_email(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    return (
        bool(local)
        and "." in domain.strip(".")
        and len(text) <= 512
        and not any(c.isspace() for c in text)
    )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """https://docs.stripe.com/get-started/account/statement-descriptors"""

    required: bool = False

    def read(self, raw: Any, param: str) -> str | None:
        text = _text_of(raw, param)
        if text == "":
            return None
        if len(text) > 22:
            raise invalid_param(
                f"The statement descriptor must be at most 22 characters, got {len(text)}.", param
            )
        if not _SAFE_DESCRIPTOR.fullmatch(text) or not any(c.isalpha() for c in text):
            raise invalid_param(
                "The statement descriptor must contain at least one letter and none of "
                "< > \\ ' \" *.",
                param,
            )
        return text


class _ClearAll:
    """``metadata=''`` removes every key."""


CLEAR_ALL = _ClearAll()


@dataclass(frozen=True, slots=True)
class Metadata:
    """https://docs.stripe.com/metadata: 50 keys, 40 characters a key, 500 a value."""

    required: bool = False

    def read(self, raw: Any, param: str) -> dict[str, str] | _ClearAll:
        if raw == "":
            return CLEAR_ALL
        if not isinstance(raw, dict):
            raise invalid_param("Invalid hash", param)
        for key, value in raw.items():
            if not isinstance(value, str):
                raise invalid_param(
                    f"Invalid metadata: the value of '{key}' must be a string", f"{param}[{key}]"
                )
            if len(key) > 40:
                raise invalid_param(
                    f"Metadata keys can have up to 40 characters, but you passed in a key that is "
                    f"{len(key)} characters. Invalid key: {key}",
                    param,
                )
            if len(value) > 500:
                raise invalid_param(
                    f"Metadata values can have up to 500 characters, but you passed in a value "
                    f"that is {len(value)} characters. Invalid value: {value}",
                    param,
                )
        _check_count(raw, param)
        return dict(raw)


def merge_metadata(
    current: Mapping[str, str], change: dict[str, str] | _ClearAll | None, param: str = "metadata"
) -> dict[str, str]:
    """Keys are merged; an empty value removes its key (https://docs.stripe.com/metadata)."""
    if change is None:
        return dict(current)
    if isinstance(change, _ClearAll):
        return {}
    merged = {**current, **change}
    merged = {key: value for key, value in merged.items() if value != ""}
    _check_count(merged, param)
    return merged


def _check_count(metadata: Mapping[str, str], param: str) -> None:
    count = sum(value != "" for value in metadata.values())
    if count > 50:
        raise invalid_param(
            f"Metadata can have up to 50 keys, but you passed in {count} keys.", param
        )


@dataclass(frozen=True, slots=True)
class Hash:
    fields: Mapping[str, Kind]
    required: bool = False
    unsettable: bool = False

    def read(self, raw: Any, param: str) -> Params | None:
        if raw == "" and self.unsettable:
            return None
        if not isinstance(raw, dict):
            raise invalid_param("Invalid hash", param)
        return read_params(self.fields, raw, param)


@dataclass(frozen=True, slots=True)
class Array:
    item: Kind
    required: bool = False
    max_items: int | None = None

    def read(self, raw: Any, param: str) -> list[Any]:
        if raw == "":
            return []
        if not isinstance(raw, dict) or not all(key.isdigit() for key in raw):
            raise invalid_param("Invalid array", param)
        if self.max_items is not None and len(raw) > self.max_items:
            raise invalid_param(
                f"Array {param} exceeded maximum {self.max_items} allowed elements.", param
            )
        ordered = sorted(raw, key=int)
        return [self.item.read(raw[key], f"{param}[{index}]") for index, key in enumerate(ordered)]


@dataclass(frozen=True, slots=True)
class Range:
    """A moment, or ``gt`` / ``gte`` / ``lt`` / ``lte`` bounds."""

    required: bool = False

    def read(self, raw: Any, param: str) -> dict[str, int]:
        bound = Integer()
        if isinstance(raw, dict):
            return read_params(dict.fromkeys(("gt", "gte", "lt", "lte"), bound), raw, param)
        moment = bound.read(raw, param)
        return {"gte": moment, "lte": moment}


@dataclass(frozen=True, slots=True)
class Anything:
    """Accepted as it came, because it changes nothing that is simulated; but for ``fields``."""

    fields: Mapping[str, Kind] = field(default_factory=dict)
    required: bool = False

    def read(self, raw: Any, param: str) -> Any:
        if isinstance(raw, dict):
            for name in self.fields.keys() & raw.keys():
                self.fields[name].read(raw[name], f"{param}[{name}]")
        return raw


@dataclass(frozen=True, slots=True)
class NotSimulated:
    """A parameter of Stripe's that would change money or state, refused rather than ignored.

    Values in ``harmless`` are the ones that ask for nothing.
    """

    harmless: Sequence[Any] = ()
    required: bool = False

    def read(self, raw: Any, param: str) -> None:
        if raw not in self.harmless:
            raise not_simulated(param)


@dataclass(frozen=True, slots=True)
class Refused:
    """A parameter that Stripe itself refuses, unless its value is one of ``harmless``."""

    message: str
    code: str | None = None
    harmless: Sequence[Any] = ()
    required: bool = False

    def read(self, raw: Any, param: str) -> None:
        if raw not in self.harmless:
            raise invalid_param(self.message, param, self.code)


EXPAND = Array(Text())

LIST_PARAMS: dict[str, Kind] = {
    "limit": Integer(minimum=1, maximum=100),
    "starting_after": Text(),
    "ending_before": Text(),
    "expand": EXPAND,
}

# https://docs.stripe.com/changelog/endive (2026-09-30)
NO_PAYMENT_METHOD_TYPES = Refused(
    "The `payment_method_types` parameter is no longer supported. Use "
    "`allowed_payment_method_types` or `excluded_payment_method_types` to filter the payment "
    "methods enabled in your Dashboard.",
    "payment_method_types_no_longer_supported",
)

# https://docs.stripe.com/get-started/account/statement-descriptors
NO_STATEMENT_DESCRIPTOR = Refused(
    "The statement_descriptor parameter is not supported for card charges. Use "
    "statement_descriptor_suffix instead.",
    harmless=("",),
)

PAYMENT_METHOD_OPTIONS = Anything(
    {
        "card": Anything(
            {
                "capture_method": NotSimulated(("",)),
                "installments": NotSimulated(("", {"enabled": "false"})),
                "moto": NotSimulated(("false",)),
                "request_three_d_secure": NotSimulated(("automatic",)),
                "setup_future_usage": NotSimulated(("", "none")),
                "three_d_secure": NotSimulated(),
            }
        ),
        "us_bank_account": Anything(
            {
                "setup_future_usage": NotSimulated(("", "none")),
                "verification_method": NotSimulated(("automatic", "instant")),
            }
        ),
        **{
            voucher: Anything({"expires_after_days": NotSimulated(), "expires_at": NotSimulated()})
            for voucher in ("boleto", "konbini", "oxxo")
        },
    }
)

ADDRESS = Hash(
    {
        name: Text(unsettable=True)
        for name in ("city", "country", "line1", "line2", "postal_code", "state")
    }
)
SHIPPING = Hash(
    {
        "address": ADDRESS,
        "name": Text(),
        "carrier": Text(unsettable=True),
        "phone": Text(unsettable=True),
        "tracking_number": Text(unsettable=True),
    },
    unsettable=True,
)


_BLANK_ADDRESS: dict[str, None] = dict.fromkeys(ADDRESS.fields)


def whole_address(
    given: Mapping[str, Any] | None, current: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Every key of an address, what is given being laid over what there was."""
    if given is None:
        return None
    return {**_BLANK_ADDRESS, **(current or {}), **given}


def whole_shipping(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "address": whole_address(given.get("address") or {}),
        "carrier": given.get("carrier"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tracking_number": given.get("tracking_number"),
    }


def read_params(spec: Mapping[str, Kind], raw: Mapping[str, Any], prefix: str = "") -> Params:
    """Check unknown names first, then each value, then what is missing, as Stripe does."""

    def full_name(name: str) -> str:
        return f"{prefix}[{name}]" if prefix else name

    unknown = [full_name(name) for name in raw if name not in spec]
    if unknown:
        raise unknown_params(unknown)
    values = {name: spec[name].read(value, full_name(name)) for name, value in raw.items()}
    for name, kind in spec.items():
        if kind.required and name not in raw:
            raise missing_param(full_name(name))
    return values
