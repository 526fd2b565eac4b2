"""The sandbox's imports point one way: from what serves, down to what everything rests on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "stripe_sandbox"
FLOORS = (
    ("core",),
    ("protocol",),
    ("trouble",),
    ("objects",),
    ("webhooks",),
    ("sandbox",),
    ("api", "control", "pages"),
    ("app",),
    ("server",),
    ("__init__", "__main__"),
)
"""Lowest first. Rooms of one floor do not import each other."""
LEVELS = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source: str) -> Iterator[str]:
    """The rooms that a module imports from, wherever in the module it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            whole = module == "stripe_sandbox"
            names = [f"{module}.{alias.name}" for alias in node.names] if whole else [module]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "stripe_sandbox":
                yield rest.partition(".")[0] or "__init__"


@pytest.mark.parametrize("room", LEVELS)
def test_a_room_imports_only_from_rooms_below_it(room: str) -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if room_of(path) == room]
    assert modules
    upward = [
        f"{path.relative_to(PACKAGE)} imports {imported}"
        for path in modules
        for imported in imports_of(path.read_text())
        if imported != room and LEVELS.get(imported, len(FLOORS)) >= LEVELS[room]
    ]
    assert not upward, (
        f"{'; '.join(upward)}: with an import that points up, or to the side, two rooms are made "
        "of each other. Neither can be changed alone, and whether the sandbox starts at all "
        "depends on which of the two Python loads first. Hand the object down as an argument, or "
        "move what both need to a room below them."
    )


def test_every_room_has_its_floor() -> None:
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} == LEVELS.keys()


def test_imports_are_found_in_every_form() -> None:
    source = (
        "import stripe_sandbox.pages.dashboard\n"
        "from stripe_sandbox import api, Sandbox\n"
        "def late():\n    from stripe_sandbox.control.routes import control_routes\n"
        "import httpx\n"
    )
    assert list(imports_of(source)) == ["pages", "api", "Sandbox", "control"]
