"""The demo shop's files agree with sandbox mode, and are what a frontend developer may copy."""

import json
import re
from pathlib import Path

from sandbox_mode import DEMO_SHOP, DEMO_USERS, SandboxPorts

FILES = sorted(path for path in DEMO_SHOP.iterdir() if path.suffix in (".html", ".js", ".css"))


def test_the_demo_users_are_those_of_the_database() -> None:
    config = (DEMO_SHOP / "config.js").read_text()
    shown = re.findall(r'id: "(\w+)", name: "\w+", credits: (\d+)', config)
    assert shown == [(str(user["_id"]), str(user["credits"])) for user in DEMO_USERS]


def test_addresses_are_in_one_file_only() -> None:
    addressed = [path.name for path in FILES if re.search(r"https?://(?!www\.)", _code(path))]
    assert addressed == ["config.js"]
    port = SandboxPorts.model_fields["stripe_sandbox_port"].default
    assert f"http://localhost:{port}/" in (DEMO_SHOP / "config.js").read_text()


def test_pages_refer_to_files_that_exist() -> None:
    for page in DEMO_SHOP.glob("*.html"):
        for name in re.findall(r'(?:src|href)="([\w-]+\.(?:js|css|html))"', page.read_text()):
            assert (DEMO_SHOP / name).is_file(), f"{page.name} refers to {name}"


def test_every_book_has_a_drawing_and_a_price() -> None:
    script = (DEMO_SHOP / "books.js").read_text()
    shelf = script[: script.index("];")]
    drawings = set(re.findall(r"^  (\w+): \(\[", script, re.MULTILINE))
    assert set(re.findall(r'drawing: "(\w+)"', shelf)) == drawings
    prices = [json.loads(price) for price in re.findall(r"cents: (\d+)", shelf)]
    # Below 50 cents Stripe refuses a payment.
    assert len(prices) == 6
    assert min(prices) >= 50


def _code(path: Path) -> str:
    """Without the comments, which may name pages to read."""
    without_blocks = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"^\s*//.*$", "", without_blocks, flags=re.MULTILINE)
