"""The page about the sandbox says what there is: cards, routes, flags and kinds of trouble."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stripe_sandbox import Sandbox, control
from stripe_sandbox.__main__ import _parser
from stripe_sandbox.control.routes import control_routes
from stripe_sandbox.objects import instruments
from stripe_sandbox.objects.cards_by_country import CARDS_BY_COUNTRY
from stripe_sandbox.trouble.faults import FAULT_KINDS, FaultPlan
from stripe_sandbox.trouble.webhook_faults import WEBHOOK_FAULT_KINDS, WebhookFaultPlan

PAGE = (Path(__file__).parents[2] / "docs" / "stripe_sandbox.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_card_but_those_of_countries_has_its_row_with_all_its_numbers() -> None:
    rows = {
        id: re.findall(r"\d{13,19}", row)
        for row in section("Test cards").splitlines()
        for id in re.findall(r"`(pm_\w+)`", row)
    }
    of_countries = {f"pm_card_{suffix}" for suffix in CARDS_BY_COUNTRY}
    assert f"({len(CARDS_BY_COUNTRY)} ids)" in PAGE
    assert set(instruments.every_id()) - of_countries == rows.keys() - of_countries
    for id, numbers in rows.items():
        instrument = instruments.by_id(id)
        assert instrument is not None
        if instrument.type == "card" and id not in of_countries:
            assert tuple(numbers) == instrument.numbers, id


def test_every_route_of_the_control_api_is_listed() -> None:
    listed = set(re.findall(r"^\| `([A-Z]+) (/[^`?]*)", section("The control API"), re.M))
    routes = {
        (method, route.path)
        for route in control_routes(Sandbox())
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes <= listed


def test_every_flag_is_listed() -> None:
    flags = {f for action in _parser()._actions for f in action.option_strings} - {"-h", "--help"}
    assert flags <= set(re.findall(r"`(--[a-z-]+)`", section("Start it")))


@pytest.mark.parametrize(
    ("path", "add"),
    [("/faults", FaultPlan.add), ("/webhooks/faults", WebhookFaultPlan.add)],
)
def test_every_field_of_a_fault_is_listed_on_the_page_and_in_the_program(
    path: str, add: Callable[..., object]
) -> None:
    fields = inspect.signature(add).parameters.keys() - {"self"}
    [row] = re.findall(rf"^\| `POST {path}` \| (.*) \|$", section("The control API"), re.M)
    assert set(re.findall(r"`(\w+)`", row)) == fields
    entry = (control.__doc__ or "").partition(f"POST   {path} ")[2].partition("DELETE")[0]
    assert fields <= set(re.findall(r"\w+", entry))


def test_every_kind_of_trouble_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", section("Trouble"), re.M)
    assert listed == [*FAULT_KINDS, *WEBHOOK_FAULT_KINDS]
