"""A real Chromium in front of `python main.py --sandbox`, both started once for the folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            # One loop for all: a browser belongs to the loop that has started it.
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass(frozen=True)
class Site:
    """The running programs, and what a test asks of them besides the browser."""

    service: str
    stripe: str
    frontend: str
    http: httpx.AsyncClient

    @property
    def demo(self) -> str:
        return f"{self.service}/demo/"

    async def api(self, method: str, path: str, **json: Any) -> Any:
        """The payment service's API."""
        url = f"{self.service}/api/v1/payment{path}"
        answer = await self.http.request(method, url, json=json or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def control(self, method: str, path: str, **json: Any) -> Any:
        """The sandbox's control API."""
        url = f"{self.stripe}/_sandbox{path}"
        answer = await self.http.request(method, url, json=json or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def intent(self, **changes: Any) -> Any:
        """A PaymentIntent that waits for a card, made by the service."""
        items = [{"book_id": "b", "title": "A book", "price_cents": 1299, "credits": 2}]
        body = {"user_id": "user_123", "items": items, **changes}
        return await self.api("POST", "/create-payment-intent", **body)

    async def paid(self) -> Any:
        """A payment that has succeeded and become an order."""
        intent = await self.intent()
        return await self.api(
            "POST",
            "/confirm-payment",
            payment_intent_id=intent["payment_intent_id"],
            payment_method_id="pm_card_visa",
        )

    async def session(self, **changes: Any) -> Any:
        items = [{"book_id": "b", "title": "A book", "price_cents": 1299, "quantity": 2}]
        body = {"user_id": "user_123", "items": items, **changes}
        return await self.api("POST", "/create-checkout-session", **body)


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        reason = "no chromium on the PATH; on Debian: apt-get install chromium"
        # Where it must be there, its absence may not look like success.
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="session")
def program() -> Iterator[tuple[int, int, str]]:
    """The ports of the service and of Stripe, and what was printed at the start."""
    service_port, stripe_port = _free_ports(2)
    environment = {
        **os.environ,
        "PORT": str(service_port),
        "STRIPE_SANDBOX_PORT": str(stripe_port),
        "HOST": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "main.py", "--sandbox"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout
    printed: list[str] = []
    welcomed = threading.Event()

    def read() -> None:
        for line in output:
            printed.append(line)
            if "Pay with credits" in line:
                welcomed.set()
        welcomed.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert welcomed.wait(START_SECONDS), "".join(printed)
        assert process.poll() is None, "".join(printed)
        yield service_port, stripe_port, "".join(printed)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(5)
        output.close()


@pytest.fixture(scope="session")
def frontend(program: tuple[int, int, str]) -> Iterator[str]:
    """A frontend's own server, with one page: Stripe.js and nothing else.

    It must be a server. A page that Playwright itself answers counts as one from the internet, from
    where Chromium lets nobody reach this machine (https://wicg.github.io/local-network-access/).
    """
    script = f"http://localhost:{program[1]}/v3/"
    html = f"""<!doctype html><html lang="en"><title>A frontend</title>
        <link rel="icon" href="data:,"><div id="place"></div>
        <script src="{script}"></script></html>""".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(html)))
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test run's output is for its results."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    executable = _chromium()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site(program: tuple[int, int, str], frontend: str) -> AsyncIterator[Site]:
    service_port, stripe_port, _ = program
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Site(
            f"http://localhost:{service_port}", f"http://localhost:{stripe_port}", frontend, http
        )


@pytest_asyncio.fixture(loop_scope="session")
async def context(
    browser: Browser, request: pytest.FixtureRequest
) -> AsyncIterator[BrowserContext]:
    """A new profile for each test, of a desktop's size unless the test is parametrized."""
    size = getattr(request, "param", DESKTOP)
    opened = await browser.new_context(viewport=size, reduced_motion="reduce")
    opened.set_default_timeout(10_000)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A page on which an exception in any script, or a breach of its CSP, fails the test."""
    opened = await context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    expect.set_options(timeout=10_000)
    yield opened
    assert errors == []
