"""API objects as plain dictionaries, built from key templates so that no key can be missing."""

import json
from pathlib import Path
from typing import Any

StripeObject = dict[str, Any]

_TEMPLATES: dict[str, StripeObject] = json.loads(
    Path(__file__).with_name("templates.json").read_text(encoding="utf-8")
)


def copy_json(value: Any) -> Any:
    """A deep copy of JSON data, several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def build(kind: str, **values: Any) -> StripeObject:
    """An object of ``kind`` with every documented key; an undocumented one is a KeyError."""
    template = _TEMPLATES[kind]
    unknown = values.keys() - template.keys()
    if unknown:
        raise KeyError(f"{kind} has no {', '.join(sorted(unknown))}")
    built: StripeObject = copy_json(template)
    built.update(values)
    return built


def changes(before: StripeObject, after: StripeObject) -> StripeObject:
    """``previous_attributes`` of an update: the old values, hash by hash, of what differs."""
    previous: StripeObject = {}
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            previous[key] = changes(old, new)
        else:
            previous[key] = copy_json(old)
    return previous


def keys_of(kind: str) -> frozenset[str]:
    return frozenset(_TEMPLATES[kind])
