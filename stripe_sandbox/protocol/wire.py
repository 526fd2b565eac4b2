"""Form bodies and query strings, as Stripe's SDKs write them: ``a[0][b]=c`` and ``a[]=c``."""

import re
from typing import Any
from urllib.parse import parse_qsl

from stripe_sandbox.protocol.errors import ApiError, invalid_param

FormData = dict[str, Any]

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")
_MAX_DEPTH = 8
_MAX_FIELDS = 4_000


def decode(text: str) -> FormData:
    """Nested dictionaries of strings. Lists stay dictionaries keyed by index until typed."""
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except UnicodeDecodeError as error:
        raise ApiError(400, "Invalid UTF-8 in the request.", executed=False) from error
    except ValueError as error:
        raise ApiError(400, "Too many parameters in the request.", executed=False) from error
    data: FormData = {}
    for key, value in pairs:
        match = _KEY.match(key)
        if match is None:
            data[key] = value
            continue
        path = [match.group(1), *_PART.findall(match.group(2))]
        if len(path) > _MAX_DEPTH:
            raise invalid_param("Parameters are nested too deeply.", path[0])
        _insert(data, path, value)
    return data


def _insert(data: FormData, path: list[str], value: str) -> None:
    node = data
    for position, part in enumerate(path[:-1]):
        key = part if part else _open_element(node, path[position + 1])
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise invalid_param("Invalid hash", "".join([path[0], *(f"[{p}]" for p in path[1:])]))
        node = child
    last = path[-1] if path[-1] else str(len(node))
    node[last] = value


def _open_element(node: FormData, following: str) -> str:
    """For ``a[][b]``: the element being filled, or a new one once it has that key."""
    if not node:
        return "0"
    current = str(len(node) - 1)
    element = node.get(current)
    filled = isinstance(element, dict) and following != "" and following in element
    return str(len(node)) if filled else current
